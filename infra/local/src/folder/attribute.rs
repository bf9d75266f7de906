//! Reads extended attributes, which are mostly short.

use rustix::fd::AsFd;
use rustix::io::Errno;

/// Longest value. Source: Linux, `include/uapi/linux/limits.h`, `XATTR_SIZE_MAX`.
const BYTES_MAX: usize = 64 * 1024;

/// Reads an attribute of an open file or directory and gives its value to `with`; `None` if the file has no such attribute.
///
/// # Errors
/// `NOTSUP` or `NOSYS` where the file system has none; all others are failures.
pub(super) fn read<T>(file: impl AsFd, name: &str, with: impl FnOnce(&[u8]) -> T) -> Result<Option<T>, Errno> {
    let mut buffer = [0_u8; 4096];
    match rustix::fs::fgetxattr(&file, name, &mut buffer[..]) {
        Ok(length) => Ok(Some(with(&buffer[..length]))),
        Err(Errno::NODATA) => Ok(None),
        Err(Errno::RANGE) => {
            let mut larger = vec![0; BYTES_MAX];
            let length = rustix::fs::fgetxattr(&file, name, &mut larger[..])?;
            Ok(Some(with(&larger[..length])))
        }
        Err(errno) => Err(errno),
    }
}
