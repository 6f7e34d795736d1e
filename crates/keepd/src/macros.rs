//! Macros that save a line or two.

/// Makes an [`Error`](crate::Error) with a formatted text: the name of a constructor, then the
/// format.
///
/// ```
/// use keepd::daemon_error;
///
/// let error = daemon_error!(config, "the port {} is taken", 8080);
/// assert!(error.is_config_error());
/// assert!(error.to_string().ends_with("the port 8080 is taken"));
/// ```
#[macro_export]
macro_rules! daemon_error {
    ($constructor:ident, $($format:tt)+) => {
        $crate::Error::$constructor(::std::format!($($format)+))
    };
}

/// Makes a [`SubsystemFn`](crate::subsystem::SubsystemFn) from a closure that returns a future:
/// what `SubsystemManager::register_closure` takes. The name is for the reader.
///
/// ```
/// use keepd::subsystem::SubsystemFn;
/// use keepd::{ShutdownHandle, subsystem};
///
/// let _run: SubsystemFn = subsystem!("web", |mut shutdown: ShutdownHandle| async move {
///     shutdown.cancelled().await;
///     Ok(())
/// });
/// ```
#[macro_export]
macro_rules! subsystem {
    ($name:expr, $closure:expr $(,)?) => {{
        let _: &str = ::std::convert::AsRef::<str>::as_ref(&$name);
        let closure = $closure;
        let run: $crate::subsystem::SubsystemFn =
            ::std::boxed::Box::new(move |shutdown: $crate::ShutdownHandle| {
                ::std::boxed::Box::pin(closure(shutdown))
            });
        run
    }};
}

/// Makes a closure for `with_task` that repeats its body until shutdown begins. What the body
/// awaits is cut short then. The name is for the reader.
///
/// ```
/// use keepd::{ShutdownCoordinator, ShutdownReason, task};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> keepd::Result<()> {
/// let run = task!("ticks", {
///     tokio::time::sleep(std::time::Duration::from_millis(1)).await;
/// });
/// let coordinator = ShutdownCoordinator::new(5000, 10_000, 15_000);
/// let task = tokio::spawn(run(coordinator.create_handle("ticks")));
/// coordinator.initiate_shutdown(ShutdownReason::Requested);
/// task.await.expect("the task does not panic")?;
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "tokio")]
#[macro_export]
macro_rules! task {
    ($name:expr, $body:expr $(,)?) => {{
        let _: &str = ::std::convert::AsRef::<str>::as_ref(&$name);
        move |mut shutdown: $crate::ShutdownHandle| async move {
            $crate::hidden::repeat(shutdown.cancelled(), || async {
                let _ = $body;
            })
            .await;
            $crate::Result::<()>::Ok(())
        }
    }};
}

/// Repeats a body until shutdown begins.
#[cfg(feature = "tokio")]
pub async fn repeat<C, B, F>(cancelled: C, mut body: B)
where
    C: Future<Output = ()>,
    B: FnMut() -> F,
    F: Future<Output = ()>,
{
    tokio::pin!(cancelled);
    loop {
        tokio::select! {
            // First, so that a body that is always ready cannot hide the shutdown.
            biased;
            () = &mut cancelled => return,
            () = body() => {}
        }
        // A body that never waits must not keep the thread to itself.
        tokio::task::yield_now().await;
    }
}

/// Measures a block: its value is that of the block, and its duration is recorded once.
///
/// ```
/// use keepd::metrics::MetricsCollector;
/// use keepd::time_block;
///
/// let metrics = MetricsCollector::new();
/// let sum = time_block!(metrics, "adding", { 1 + 2 });
/// assert_eq!(sum, 3);
/// assert_eq!(metrics.get_metrics().histograms["adding"].len(), 1);
/// ```
#[cfg(feature = "metrics")]
#[macro_export]
macro_rules! time_block {
    ($collector:expr, $name:expr, $block:block) => {{
        let timer = $crate::metrics::Timer::new(::std::clone::Clone::clone(&$collector), $name);
        let value = $block;
        timer.stop();
        value
    }};
}

/// Makes mimalloc the allocator of the program: one line outside of functions, in the program
/// itself. A library that did this by itself would decide for everybody who links it.
///
/// ```
/// keepd::global_allocator!();
///
/// fn main() {
///     assert_eq!(vec![1; 100].len(), 100);
/// }
/// ```
#[cfg(feature = "mimalloc")]
#[macro_export]
macro_rules! global_allocator {
    () => {
        #[global_allocator]
        static GLOBAL_ALLOCATOR: $crate::hidden::mimalloc::MiMalloc =
            $crate::hidden::mimalloc::MiMalloc;
    };
}

/// Makes the allocator that counts for `profiling::heap::HeapProfiler` the allocator of the
/// program: one line outside of functions, in the program itself.
///
/// ```
/// use keepd::profiling::heap::HeapProfiler;
///
/// keepd::heap_profiling_allocator!();
///
/// fn main() -> keepd::Result<()> {
///     let path = std::env::temp_dir().join(format!("keepd-doc-{}.json", std::process::id()));
///     let profiler = HeapProfiler::start(Some(&path))?;
///     assert_eq!(vec![1; 100].len(), 100);
///     profiler.stop();
///     assert!(path.exists());
/// #   std::fs::remove_file(&path)?;
///     Ok(())
/// }
/// ```
#[cfg(feature = "heap-profiling")]
#[macro_export]
macro_rules! heap_profiling_allocator {
    () => {
        #[global_allocator]
        static GLOBAL_ALLOCATOR: $crate::hidden::dhat::Alloc = $crate::hidden::dhat::Alloc;
    };
}
