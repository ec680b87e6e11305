//! What must go on as long as the process does: a panic there is told and mended, never left as a process half dead.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tracing::error;

/// Between a panic and the next attempt, so that one that comes at once does not fill the log.
const REST: Duration = Duration::from_millis(500);
const HINT: &str = "this is a bug of the pooler; its standard error says where";

/// Runs what `begin` makes, in a task of its own, and begins it again after a panic. The handle ends it.
pub fn task<F>(name: &'static str, mut begin: impl FnMut() -> F + Send + 'static) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    let lasting = async move {
        // Ends what it runs when it is ended itself.
        let mut running = JoinSet::new();
        loop {
            running.spawn(begin());
            let end = running.join_next().await;
            if !matches!(&end, Some(Err(end)) if end.is_panic()) {
                return;
            }
            error!(
                task = name,
                hint = HINT,
                "a panic ended a task, it begins again"
            );
            tokio::time::sleep(REST).await;
        }
    };
    tokio::spawn(lasting).abort_handle()
}

/// Runs a task without which the process is of no use: a panic ends it.
pub async fn needed(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    if tokio::spawn(work).await.is_err_and(|end| end.is_panic()) {
        error!(
            task = name,
            hint = HINT,
            "a panic ended a task that cannot be begun again: the process ends"
        );
        exit(70);
    }
}

/// Runs `work`, without which the process is of no use: a panic ends it, so that whoever looks after it starts it again.
pub fn or_exit(name: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        error!(
            thread = name,
            hint = HINT,
            "a panic ended a thread that cannot be begun again: the process ends"
        );
        exit(70);
    }
}

#[cfg(test)]
mod tests {
    use super::task;
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_task_that_panics_begins_again() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (begun, mut begins) = unbounded_channel();
            let mut count = 0;
            task("test", move || {
                count += 1;
                begun.send(count).unwrap();
                let is_first = count == 1;
                async move {
                    assert!(!is_first, "the first of them panics");
                }
            });
            assert_eq!(begins.recv().await, Some(1));
            assert_eq!(begins.recv().await, Some(2));
            assert_eq!(begins.recv().await, None, "one that returns is over");
        });
    }
}
