//! What a subsystem runs, as the manager keeps it, and the task around one run.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::inner::Inner;
use super::types::{HealthCheck, RestartPolicy, Subsystem, SubsystemFuture};
use super::words::End;
use crate::Result;
use crate::shutdown::ShutdownHandle;

/// What the manager asks of a subsystem after it was registered.
pub(super) trait Body: Send + Sync + 'static {
    fn run(&self, shutdown: ShutdownHandle) -> SubsystemFuture;

    fn restart_policy(&self) -> RestartPolicy {
        RestartPolicy::Never
    }

    fn health_check(&self) -> Option<HealthCheck> {
        None
    }

    fn depends_on(&self) -> &[&str] {
        &[]
    }
}

/// A value of the public trait.
pub(super) struct OfSubsystem<S>(pub(super) S);

impl<S: Subsystem> Body for OfSubsystem<S> {
    fn run(&self, shutdown: ShutdownHandle) -> SubsystemFuture {
        self.0.run(shutdown)
    }

    fn restart_policy(&self) -> RestartPolicy {
        self.0.restart_policy()
    }

    fn health_check(&self) -> Option<HealthCheck> {
        self.0.health_check()
    }

    fn depends_on(&self) -> &[&str] {
        self.0.depends_on()
    }
}

/// A function whose future is boxed here.
pub(super) struct OfFunction<F>(pub(super) F);

impl<F, Fut> Body for OfFunction<F>
where
    F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn run(&self, shutdown: ShutdownHandle) -> SubsystemFuture {
        Box::pin((self.0)(shutdown))
    }
}

/// A function that boxes its future itself.
pub(super) struct OfClosure<F>(pub(super) F);

impl<F> Body for OfClosure<F>
where
    F: Fn(ShutdownHandle) -> SubsystemFuture + Send + Sync + 'static,
{
    fn run(&self, shutdown: ShutdownHandle) -> SubsystemFuture {
        (self.0)(shutdown)
    }
}

/// The task of one run. Whatever happens to it, its end is reported exactly once: by the return,
/// the error or the panic of the body, and by the drop of the task where it was aborted.
///
/// The stage is declared first, so that what the body owns is dropped before the end is reported.
pub(super) struct Run {
    stage: Stage,
    report: Report,
}

enum Stage {
    /// The function of the body is called inside the task, where a panic of it is seen.
    Begin(Arc<dyn Body>, ShutdownHandle),
    Body(SubsystemFuture),
    Over,
}

/// Reports the end when it is dropped, if nothing else did.
struct Report {
    inner: Option<Arc<Inner>>,
    index: u32,
    run: u32,
}

impl Run {
    pub(super) fn new(
        inner: Arc<Inner>,
        index: u32,
        run: u32,
        body: Arc<dyn Body>,
        shutdown: ShutdownHandle,
    ) -> Self {
        let report = Report { inner: Some(inner), index, run };
        Self { stage: Stage::Begin(body, shutdown), report }
    }
}

impl Stage {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Self::Begin(..) = self
            && let Self::Begin(body, shutdown) = std::mem::replace(self, Self::Over)
        {
            *self = Self::Body(body.run(shutdown));
        }
        match self {
            Self::Body(body) => {
                let polled = body.as_mut().poll(context);
                if polled.is_ready() {
                    // Dropped here, where a panic of a destructor is seen as well.
                    *self = Self::Over;
                }
                polled
            }
            Self::Begin(..) | Self::Over => Poll::Ready(Ok(())),
        }
    }
}

impl Future for Run {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let run = &mut *self;
        // Nothing of the body is looked at after a panic: it is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| run.stage.poll(context)));
        let end = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => End::Done,
            Ok(Poll::Ready(Err(error))) => End::Failed(error.to_string(), error.exit_code()),
            Err(payload) => {
                let text = panic_text(&*payload);
                let stage = std::mem::replace(&mut run.stage, Stage::Over);
                // A destructor that panics after a panic adds nothing to what is known.
                let _ = catch_unwind(AssertUnwindSafe(|| drop((stage, payload))));
                End::Panicked(text)
            }
        };
        run.report.end(end);
        Poll::Ready(())
    }
}

impl Report {
    fn end(&mut self, end: End) {
        if let Some(inner) = self.inner.take() {
            inner.ended(self.index, self.run, end);
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.end(End::Aborted);
    }
}

/// Returns the text of a panic, where it has one.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a value that is not text".to_owned()
    }
}
