//! What a subsystem runs, as the manager keeps it, and the task around one run.
//!
//! The body's own future is a part of that task, not a box in it: where there are very many
//! subsystems, the box would be a fifth of what each needs.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::inner::Inner;
use super::types::{HealthCheck, RestartPolicy, Subsystem, SubsystemFuture};
use super::words::End;
use crate::Result;
use crate::shutdown::ShutdownHandle;

/// What the manager asks of a subsystem after it was registered.
pub(super) trait Body: Send + Sync + 'static {
    /// Starts one run, as a task.
    fn spawn(
        self: Arc<Self>,
        runtime: &Handle,
        report: Report,
        shutdown: ShutdownHandle,
    ) -> AbortHandle;

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

/// What makes the futures of runs.
pub(super) trait Make: Send + Sync + 'static {
    type Run: Future<Output = Result<()>> + Send + 'static;

    fn make(&self, shutdown: ShutdownHandle) -> Self::Run;
}

/// A value of the public trait.
pub(super) struct OfSubsystem<S>(pub(super) S);

impl<S: Subsystem> Make for OfSubsystem<S> {
    type Run = SubsystemFuture;

    fn make(&self, shutdown: ShutdownHandle) -> SubsystemFuture {
        self.0.run(shutdown)
    }
}

impl<S: Subsystem> Body for OfSubsystem<S> {
    fn spawn(
        self: Arc<Self>,
        runtime: &Handle,
        report: Report,
        shutdown: ShutdownHandle,
    ) -> AbortHandle {
        runtime.spawn(Run::new(self, report, shutdown)).abort_handle()
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

/// A function that returns a future of its own type.
pub(super) struct OfFunction<F>(pub(super) F);

impl<F, Fut> Make for OfFunction<F>
where
    F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    type Run = Fut;

    fn make(&self, shutdown: ShutdownHandle) -> Fut {
        (self.0)(shutdown)
    }
}

impl<F, Fut> Body for OfFunction<F>
where
    F: Fn(ShutdownHandle) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    fn spawn(
        self: Arc<Self>,
        runtime: &Handle,
        report: Report,
        shutdown: ShutdownHandle,
    ) -> AbortHandle {
        runtime.spawn(Run::new(self, report, shutdown)).abort_handle()
    }
}

pin_project! {
    /// The task of one run. Whatever happens to it, its end is reported exactly once: by the
    /// return, the error or the panic of the body, and by the drop of the task where it was
    /// aborted.
    ///
    /// The stage is declared first, so that what the body owns is dropped before the end is
    /// reported.
    struct Run<M: Make> {
        #[pin]
        stage: Stage<M, M::Run>,
        report: Report,
    }
}

pin_project! {
    #[project = StageProjection]
    enum Stage<M, Fut> {
        // The function of the body is called inside the task, where a panic of it is seen. The
        // handle is taken out then.
        Begin { body: Arc<M>, shutdown: Option<ShutdownHandle> },
        Body { #[pin] future: Fut },
        Over,
    }
}

/// Reports the end when it is dropped, if nothing else did.
pub(super) struct Report {
    inner: Option<Arc<Inner>>,
    index: u32,
    run: u32,
}

impl<M: Make> Run<M> {
    fn new(body: Arc<M>, report: Report, shutdown: ShutdownHandle) -> Self {
        Self { stage: Stage::Begin { body, shutdown: Some(shutdown) }, report }
    }
}

impl<M: Make> Stage<M, M::Run> {
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let StageProjection::Begin { body, shutdown } = self.as_mut().project()
            && let Some(shutdown) = shutdown.take()
        {
            let future = body.make(shutdown);
            self.set(Self::Body { future });
        }
        match self.as_mut().project() {
            StageProjection::Body { future } => {
                let polled = future.poll(context);
                if polled.is_ready() {
                    // Dropped here, where a panic of a destructor is seen as well.
                    self.set(Self::Over);
                }
                polled
            }
            StageProjection::Begin { .. } | StageProjection::Over => Poll::Ready(Ok(())),
        }
    }
}

impl<M: Make> Future for Run<M> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut run = self.project();
        // Nothing of the body is looked at after a panic: it is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| run.stage.as_mut().poll(context)));
        let end = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => End::Done,
            Ok(Poll::Ready(Err(error))) => End::Failed(error.to_string(), error.exit_code()),
            Err(payload) => {
                let text = panic_text(&*payload);
                // A destructor that panics after a panic adds nothing to what is known.
                let _ = catch_unwind(AssertUnwindSafe(|| run.stage.set(Stage::Over)));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                End::Panicked(text)
            }
        };
        run.report.end(end);
        Poll::Ready(())
    }
}

impl Report {
    pub(super) const fn new(inner: Arc<Inner>, index: u32, run: u32) -> Self {
        Self { inner: Some(inner), index, run }
    }

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
