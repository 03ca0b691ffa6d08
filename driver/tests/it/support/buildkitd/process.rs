//! A thread that stands for a process: killed, all that it had open is closed at once; frozen, it says nothing more.

use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::mpsc as orders;

#[derive(Debug)]
enum Order {
    Kill,
    /// Until the other end of this goes.
    Freeze(mpsc::Receiver<()>),
}

/// Runs one future and all that it spawns.
#[derive(Debug)]
pub(super) struct Process {
    orders: orders::UnboundedSender<Order>,
    /// Dropped, a frozen process goes on.
    frozen: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    pub(super) fn start<F>(main: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()>,
    {
        let (sender, mut receiver) = orders::unbounded_channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut main = std::pin::pin!(main());
                loop {
                    tokio::select! {
                        () = &mut main => return,
                        order = receiver.recv() => match order {
                            // The thread itself stops, and all its tasks with it.
                            Some(Order::Freeze(until)) => drop(until.recv()),
                            Some(Order::Kill) | None => return,
                        },
                    }
                }
            });
        };
        Self { orders: sender, frozen: None, thread: Some(std::thread::spawn(run)) }
    }

    pub(super) fn freeze(&mut self) {
        let (sender, receiver) = mpsc::channel();
        self.frozen = Some(sender);
        // One that has ended stays so.
        let _ = self.orders.send(Order::Freeze(receiver));
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Returns when nothing of it is left.
    pub(super) async fn kill(mut self) {
        let thread = self.stop().expect("it runs until it is killed");
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }

    fn stop(&mut self) -> Option<JoinHandle<()>> {
        self.frozen = None;
        let _ = self.orders.send(Order::Kill);
        self.thread.take()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without a wait: it is at its end as soon as it looks.
        drop(self.stop());
    }
}
