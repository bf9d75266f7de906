//! The right of a file's group where the file has an access list.
//!
//! There the group bits of the mode are the list's mask: the most that anyone whom the list names has. The file's own group may
//! have less. A copy gets no list, so it gets the group's own right: it never grants more than its original.

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::attribute;
use super::attribute_names::AttributeNames;
use super::file_state::FileState;

const ATTRIBUTE: &str = "system.posix_acl_access";
/// The form of the attribute, and the tag of the group's entry in it. Source: Linux, `include/uapi/linux/posix_acl_xattr.h` and
/// `posix_acl.h`.
const FORM: u32 = 2;
const GROUP: u16 = 0x04;
/// The group bits of a mode.
const GROUP_BITS: u32 = 0o070;

/// The state of an open file with these attributes, with the group's own right in its mode.
///
/// # Errors
/// The list cannot be read: then the group may have less than the mode shows.
pub(super) fn with_group_right(file: impl AsFd, state: FileState, names: &AttributeNames) -> Result<FileState, Errno> {
    if state.mode & GROUP_BITS == 0 || names.lack(ATTRIBUTE, state.device) {
        return Ok(state);
    }
    let right = match attribute::read(file, ATTRIBUTE, group_right) {
        Ok(right) => right.flatten(),
        // The file system has no access lists. Some in user space refuse the name of the attribute.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => None,
        Err(errno) => return Err(errno),
    };
    let mode = right.map_or(state.mode, |right| state.mode & (!GROUP_BITS | right << 3));
    Ok(FileState { mode, ..state })
}

/// The right of the file's group in a list.
fn group_right(list: &[u8]) -> Option<u32> {
    let (form, entries) = list.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*form) != FORM {
        return None;
    }
    let mut entries = entries.chunks_exact(8).map(|entry| {
        let word = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        (word(0), word(2))
    });
    entries.find(|(tag, _)| *tag == GROUP).map(|(_, right)| u32::from(right & 0o7))
}
