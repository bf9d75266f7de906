//! Named points in the code at which a test can kill the real binary.
//!
//! Each crate lists its own points beside its code, with [`crash_points!`](crate::crash_points). The binary collects the lists.
//!
//! Only with the feature `test-hooks` can a listener be set; without it a point compiles to nothing, and the binary
//! contains no names of points. The listener decides what happens: the binary's own kills its process, as a power cut
//! would.

/// A point at which a test can kill the process. It is passed each time it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrashPoint {
    #[cfg(feature = "test-hooks")]
    name: &'static str,
}

#[cfg(feature = "test-hooks")]
impl CrashPoint {
    /// The point of this name: words with hyphens, the room first.
    pub const fn new(name: &'static str) -> Self {
        Self { name }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        self.name
    }
}

#[cfg(not(feature = "test-hooks"))]
impl CrashPoint {
    /// Keeps no name: this is no test build.
    pub const fn new(_: &'static str) -> Self {
        Self {}
    }

    /// Is empty: this is no test build.
    pub const fn name(self) -> &'static str {
        ""
    }
}

/// Declares the crash points of a crate, and lists them as `CRASH_POINTS`.
///
/// ```
/// mill_hooks::crash_points! {
///     /// The door is open; nobody has come in yet.
///     HOUSE_OPENED = "house-opened",
/// }
///
/// mill_hooks::crash_point(HOUSE_OPENED);
/// assert_eq!(CRASH_POINTS, [HOUSE_OPENED]);
/// ```
#[macro_export]
macro_rules! crash_points {
    ($($(#[$about:meta])+ $point:ident = $name:literal,)+) => {
        $($(#[$about])+ pub(crate) const $point: $crate::CrashPoint = $crate::CrashPoint::new($name);)+

        /// The points of this crate, in the order of a task's life.
        #[allow(unreachable_pub, reason = "a binary lists its own too")]
        pub const CRASH_POINTS: &[$crate::CrashPoint] = &[$($point),+];
    };
}

/// Whether this build can have a listener. Only builds for tests can; no shipped build does.
pub const TEST_BUILD: bool = cfg!(feature = "test-hooks");

#[cfg(feature = "test-hooks")]
static LISTENER: std::sync::OnceLock<fn(CrashPoint)> = std::sync::OnceLock::new();

/// Calls `listener` at each point that is passed from now on. Only the first listener is kept.
#[cfg(feature = "test-hooks")]
pub fn listen(listener: fn(CrashPoint)) {
    let _ = LISTENER.set(listener);
}

/// Does nothing: this is no test build.
#[cfg(not(feature = "test-hooks"))]
pub fn listen(_: fn(CrashPoint)) {}

/// Passes a point.
#[cfg(feature = "test-hooks")]
#[inline]
pub fn crash_point(point: CrashPoint) {
    if let Some(listener) = LISTENER.get() {
        listener(point);
    }
}

/// Passes a point. Does nothing: this is no test build.
#[cfg(not(feature = "test-hooks"))]
#[inline]
pub fn crash_point(_: CrashPoint) {}

#[cfg(test)]
mod tests {
    #[cfg(feature = "test-hooks")]
    #[test]
    fn a_listener_hears_each_point_that_is_passed() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        use super::*;

        crate::crash_points! {
            /// One that is counted.
            ROOM_DONE = "room-done",
            /// One that is not.
            ROOM_OPENED = "room-opened",
        }
        static HEARD: AtomicUsize = AtomicUsize::new(0);
        listen(|point| {
            HEARD.fetch_add(usize::from(point == ROOM_DONE), Ordering::Relaxed);
        });
        listen(|_| panic!("the first one stays"));
        for point in CRASH_POINTS {
            crash_point(*point);
        }
        assert_eq!(HEARD.load(Ordering::Relaxed), 1);
    }
}
