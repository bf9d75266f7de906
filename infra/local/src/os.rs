//! The operating system's clocks and random numbers.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use mill_model::{Monotonic, Timestamp};
use mill_ports::{Clock, Rng, SecondClockReading};

/// The operating system's clocks.
///
/// On Linux the monotonic clock counts while the machine is suspended. So a lease expires during a suspended night, in
/// which another workman may take the task.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsClock;

#[async_trait]
impl Clock for OsClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(since_boot())
    }

    fn awake(&self) -> Monotonic {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        Monotonic::from_origin(ORIGIN.get_or_init(Instant::now).elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// The boot clock under its boot id: setting the wall clock does not move it.
    fn second_clock(&self) -> Option<SecondClockReading> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(SecondClockReading { domain: format!("boot:{}", id.trim()), at: since_boot() })
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since_boot() -> Duration {
    static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    ORIGIN.get_or_init(std::time::Instant::now).elapsed()
}

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn next_u64(&self) -> u64 {
        rand::random()
    }
}

/// 32 bytes for a secret key, straight from the operating system's generator. [`OsRng`] is for what need not be secret.
///
/// # Errors
/// The generator does not answer.
pub fn secret_bytes() -> std::io::Result<[u8; 32]> {
    use rand::TryRng as _;
    let mut bytes = [0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeping_moves_both_clocks() {
        let (wall, steady) = (OsClock.now(), OsClock.monotonic());
        OsClock.sleep(Duration::from_millis(20)).await;
        assert!(OsClock.now().since(wall) >= Duration::from_millis(10));
        assert!(OsClock.monotonic().since(steady) >= Duration::from_millis(19));
    }

    #[test]
    fn chance_does_not_repeat_itself() {
        assert_ne!(OsRng.next_u64(), OsRng.next_u64());
    }
}
