//! Who writes into the state folder: its owner, also where root types the command.
//!
//! The daemon runs as a user of its own (systemd: `User=irisd`). A file that root left there with 0600 would be one that the daemon
//! cannot read: no token would count, and it could not start again. Handing files over afterwards would leave gaps (a command that was
//! cut off) and have root follow links in a folder that is not its own; so the command becomes the owner before it writes.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use anyhow::Context;
use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};

/// From here on this process is the owner of `folder`, for good; nothing happens unless it is root and the folder somebody else's.
///
/// Call it before any thread is started: Linux counts users by thread, and new threads take after the one that starts them. What only
/// root can read (configuration, the file to be added) must be open by then. A missing folder belongs to nobody yet.
pub(super) fn become_owner_of(folder: &Path) -> anyhow::Result<()> {
    let about = match fs::metadata(folder) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| folder.display().to_string()),
    };
    if !geteuid().is_root() || about.uid() == 0 {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
    // The user last: nobody but root may change groups.
    let become_it = || set_thread_groups(&[group]).and_then(|()| set_thread_gid(group)).and_then(|()| set_thread_uid(user));
    become_it().with_context(|| format!("{} belongs to user {}; run this command as that user", folder.display(), about.uid()))
}
