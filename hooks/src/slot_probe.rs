//! Reports to the simulation what no port shows. Without the feature `test-hooks` nothing is reported.

#[cfg(feature = "test-hooks")]
mod on {
    use std::cell::RefCell;
    use std::rc::Rc;

    type Listener = Rc<dyn Fn(&str, u32)>;

    std::thread_local! {
        static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
    }

    /// Reports how many slots of a workman are taken, each time before it waits.
    pub fn report_slots(workman: &str, taken: u32) {
        let listener = LISTENER.with_borrow(Clone::clone);
        if let Some(listener) = listener {
            listener(workman, taken);
        }
    }

    /// Sets or removes the listener for this thread's workmen.
    pub fn observe_slots(listener: Option<Listener>) {
        LISTENER.set(listener);
    }
}

#[cfg(feature = "test-hooks")]
pub use on::{observe_slots, report_slots};

/// Does nothing without the feature `test-hooks`.
#[cfg(not(feature = "test-hooks"))]
#[inline(always)]
#[allow(clippy::inline_always)] // so that not even the call is left
pub const fn report_slots(_: &str, _: u32) {}
