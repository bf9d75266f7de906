//! Requests to a thread of the database.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use tokio::sync::Semaphore;

/// Most pending requests of either thread. Further callers wait before they enqueue theirs.
const WAITING_MAX: usize = 1024;

/// A bounded channel of requests to a thread.
pub(super) struct RequestChannel<R> {
    pub(super) sender: Sender<R>,
    pub(super) slots: Arc<Semaphore>,
}

impl<R> RequestChannel<R> {
    pub(super) fn new() -> (Self, mpsc::Receiver<R>) {
        let (sender, receiver) = mpsc::channel();
        (Self { sender, slots: Arc::new(Semaphore::new(WAITING_MAX)) }, receiver)
    }

    /// Closes the channel. The thread ends once it has served the pending requests.
    pub(super) fn close(&mut self) {
        self.sender = mpsc::channel().0;
    }
}
