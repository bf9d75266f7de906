//! Files and directories that come, change and go.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

fn space(root: &Path) {
    fs::create_dir(root.join("s")).unwrap();
}

#[test]
fn a_file_is_hinted_at_when_it_is_written_changed_and_deleted() {
    let mut watched = watched(space);
    watched.write("s/a");
    watched.says("+s/a");
    watched.forget();
    fs::write(watched.at("s/a"), "other").unwrap();
    watched.says("+s/a");
    watched.forget();
    fs::remove_file(watched.at("s/a")).unwrap();
    watched.says("-s/a");
}

#[test]
fn what_was_there_before_the_watch_is_not_hinted_at() {
    let mut watched = watched(|root| {
        space(root);
        fs::write(root.join("s/old"), "x").unwrap();
    });
    assert_eq!(watched.all(), [""; 0]);
}

#[test]
fn a_tree_that_is_made_faster_than_it_can_be_watched_is_found_whole() {
    let mut watched = watched(space);
    for round in 0..20 {
        let deep = format!("s/{round}/b/c/d/e/f/g");
        fs::create_dir_all(watched.at(&deep)).unwrap();
        watched.write(&format!("{deep}/file"));
        watched.write(&format!("s/{round}/b/file"));
    }
    for round in 0..20 {
        watched.says(&format!("+s/{round}/b/c/d/e/f/g/file"));
        watched.says(&format!("+s/{round}/b/file"));
    }
    // Each of them is watched too.
    watched.forget();
    watched.write("s/7/b/c/later");
    watched.says("+s/7/b/c/later");
}

#[test]
fn a_directory_that_is_moved_in_is_found_with_all_that_is_in_it() {
    let mut watched = watched(space);
    let outside = TempDir::new_in(watched.root.parent().unwrap()).unwrap();
    fs::create_dir_all(outside.path().join("album/2026")).unwrap();
    fs::write(outside.path().join("album/2026/one"), "x").unwrap();
    fs::create_dir(outside.path().join("album/empty")).unwrap();
    fs::rename(outside.path().join("album"), watched.at("s/album")).unwrap();
    watched.says_all(&["+s/album/2026/one", "+s/album/empty/"]);
}

#[test]
fn a_directory_that_is_moved_out_or_renamed_is_to_be_listed_and_its_new_name_is_watched() {
    let mut watched = watched(|root| {
        fs::create_dir_all(root.join("s/a/deep")).unwrap();
        fs::write(root.join("s/a/deep/file"), "x").unwrap();
        fs::create_dir_all(root.join("s/c")).unwrap();
        fs::write(root.join("s/c/file"), "x").unwrap();
    });
    fs::rename(watched.at("s/a"), watched.at("s/b")).unwrap();
    watched.says_all(&["?`s/a/` MovedAway", "+s/b/deep/file"]);
    fs::rename(watched.at("s/c"), watched.root.parent().unwrap().join("c")).unwrap();
    watched.says("?`s/c/` MovedAway");
    watched.forget();
    // Reported by its new name, never by its old one; and what was moved out is nobody's business.
    fs::write(watched.root.parent().unwrap().join("c/later"), "x").unwrap();
    watched.write("s/b/later");
    watched.write("s/b/deep/later");
    watched.says_all(&["+s/b/later", "+s/b/deep/later"]);
    let all = watched.all();
    assert!(all.iter().all(|word| word.starts_with("+s/b/")), "{all:?}");
}

#[test]
fn directories_that_take_each_others_names_are_reported_by_today_s() {
    let mut watched = watched(|root| {
        fs::create_dir_all(root.join("s/a/x")).unwrap();
        fs::create_dir_all(root.join("s/b/x")).unwrap();
    });
    for _ in 0..10 {
        fs::rename(watched.at("s/a"), watched.at("s/t")).unwrap();
        fs::rename(watched.at("s/b"), watched.at("s/a")).unwrap();
        fs::rename(watched.at("s/t"), watched.at("s/b")).unwrap();
    }
    watched.forget();
    fs::write(watched.at("s/a/x/one"), "x").unwrap();
    fs::write(watched.at("s/b/x/two"), "x").unwrap();
    watched.says_all(&["+s/a/x/one", "+s/b/x/two"]);
    let all = watched.all();
    assert!(!all.iter().any(|word| word.contains("s/b/x/one") || word.contains("s/a/x/two")), "{all:?}");
}

#[test]
fn a_directory_that_is_moved_into_a_new_one_is_still_watched() {
    let mut watched = watched(|root| {
        for round in 0..50 {
            fs::create_dir_all(root.join(format!("s/{round}/deep"))).unwrap();
        }
    });
    for round in 0..50 {
        fs::create_dir(watched.at(&format!("s/new{round}"))).unwrap();
        fs::rename(watched.at(&format!("s/{round}")), watched.at(&format!("s/new{round}/it"))).unwrap();
    }
    watched.forget();
    for round in 0..50 {
        watched.write(&format!("s/new{round}/it/deep/later"));
    }
    for round in 0..50 {
        watched.says(&format!("+s/new{round}/it/deep/later"));
    }
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_watched_again() {
    let mut watched = watched(space);
    for round in 0..50 {
        fs::create_dir_all(watched.at("s/build/out")).unwrap();
        watched.write("s/build/out/object");
        if round < 49 {
            fs::remove_dir_all(watched.at("s/build")).unwrap();
        }
    }
    watched.says("+s/build/out/object");
    watched.forget();
    watched.write("s/build/out/later");
    watched.says("+s/build/out/later");
}

#[test]
fn files_beneath_a_removed_directory_are_each_named_and_it_was_no_item() {
    let mut watched = watched(|root| {
        fs::create_dir_all(root.join("s/a/b")).unwrap();
        fs::write(root.join("s/a/b/one"), "x").unwrap();
        fs::write(root.join("s/a/two"), "x").unwrap();
        fs::write(root.join("s/kept"), "x").unwrap();
    });
    fs::remove_dir_all(watched.at("s/a")).unwrap();
    watched.says_all(&["-s/a/b/one", "-s/a/two"]);
    assert_eq!(watched.all().len(), 2, "{:?}", watched.words());
}

#[test]
fn an_empty_directory_is_an_item_until_something_is_in_it() {
    let mut watched = watched(space);
    fs::create_dir(watched.at("s/d")).unwrap();
    watched.says("+s/d/");
    watched.forget();
    watched.write("s/d/file");
    watched.says_all(&["-s/d/", "+s/d/file"]);
    watched.forget();
    fs::remove_file(watched.at("s/d/file")).unwrap();
    watched.says_all(&["-s/d/file", "+s/d/"]);
    watched.forget();
    fs::set_permissions(watched.at("s/d"), fs::Permissions::from_mode(0o700)).unwrap();
    watched.says("+s/d/");
    watched.forget();
    fs::remove_dir(watched.at("s/d")).unwrap();
    watched.says("-s/d/");
    assert!(!watched.all().iter().any(|word| word == "+s/" || word == "-s/"));
}

#[test]
fn a_file_that_is_replaced_by_renaming_another_over_it_is_changed_and_the_other_was_nothing() {
    let mut watched = watched(|root| {
        space(root);
        fs::write(root.join("s/doc"), "old").unwrap();
    });
    fs::write(watched.at("s/.doc.swp"), "new").unwrap();
    fs::rename(watched.at("s/.doc.swp"), watched.at("s/doc")).unwrap();
    watched.says("+s/doc");
    let all = watched.all();
    assert!(all.iter().all(|word| word == "+s/doc"), "a name that came and went is no delete: {all:?}");
}

#[test]
fn a_renamed_file_is_gone_by_its_old_name_and_new_by_the_other() {
    let mut watched = watched(|root| {
        space(root);
        fs::write(root.join("s/a"), "x").unwrap();
    });
    fs::rename(watched.at("s/a"), watched.at("s/b")).unwrap();
    watched.says_all(&["-s/a", "+s/b"]);
}

#[test]
fn a_file_that_is_held_open_is_told_once_it_is_quiet_and_again_when_it_is_closed() {
    let mut watched = watched(space);
    let mut file = OpenOptions::new().create(true).append(true).open(watched.at("s/log")).unwrap();
    for _ in 0..20 {
        file.write_all(b"line\n").unwrap();
    }
    watched.says("+s/log");
    assert_eq!(watched.words().iter().filter(|word| *word == "+s/log").count(), 1);
    watched.said.clear();
    file.write_all(b"more\n").unwrap();
    drop(file);
    watched.says("+s/log");
}

#[test]
fn times_modes_and_attributes_are_changes() {
    let mut watched = watched(|root| {
        space(root);
        fs::write(root.join("s/a"), "x").unwrap();
    });
    fs::set_permissions(watched.at("s/a"), fs::Permissions::from_mode(0o600)).unwrap();
    watched.says("+s/a");
    watched.forget();
    fs::File::options().append(true).open(watched.at("s/a")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    watched.says("+s/a");
    watched.forget();
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(watched.at("s/a"), "user.k", b"v", flags).is_ok() {
        watched.says("+s/a");
    } else {
        println!("NOT RUN: attributes, which this file system does not store");
    }
}

#[test]
fn links_special_files_and_names_that_are_not_utf8_give_no_hint_and_are_not_followed() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut watched = watched(space);
    let outside = watched.root.parent().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, watched.at("s/link")).unwrap();
    symlink(&outside, watched.at("linked-space")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, watched.at("s/pipe"), rustix::fs::Mode::RUSR).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(watched.at("s").join(name), "x").unwrap();
    fs::create_dir(watched.at("s").join(name).with_extension("d")).unwrap();
    fs::write(watched.at("s").join(name).with_extension("d").join("in"), "x").unwrap();
    fs::write(outside.join("file"), "x").unwrap();
    assert_eq!(watched.all(), [""; 0]);
}

#[test]
fn a_directory_that_is_replaced_by_a_link_is_not_followed() {
    let mut watched = watched(|root| {
        fs::create_dir_all(root.join("s/real")).unwrap();
        fs::write(root.join("s/real/file"), "x").unwrap();
        fs::create_dir(root.join("s/copy")).unwrap();
        fs::write(root.join("s/copy/file"), "x").unwrap();
    });
    fs::remove_dir_all(watched.at("s/copy")).unwrap();
    symlink("real", watched.at("s/copy")).unwrap();
    watched.says("-s/copy/file");
    watched.forget();
    watched.write("s/real/later");
    watched.says("+s/real/later");
    assert!(!watched.all().iter().any(|word| word.contains("s/copy")), "{:?}", watched.words());
}

#[test]
fn what_mill_prepares_below_a_root_is_no_item() {
    let folder = TempDir::new().unwrap();
    let mut watched = watch_at(folder.path(), |settings| {
        settings.layout = Layout::Single("s".parse().unwrap());
    });
    fs::create_dir(watched.at(".mill-in-progress")).unwrap();
    watched.write(".mill-in-progress/1");
    watched.write("item");
    watched.says("+s/item");
    assert_eq!(watched.words(), ["+s/item"]);
    fs::remove_file(watched.at("item")).unwrap();
    watched.says("-s/item");
    assert!(!watched.words().iter().any(|word| word == "+s//"), "the root is no item");
}

#[test]
fn spaces_that_come_and_go_are_told_and_their_items_too() {
    let mut watched = watched(space);
    fs::create_dir(watched.at("new")).unwrap();
    watched.write("new/a");
    watched.write("not-in-a-space");
    watched.says_all(&["*new", "+new/a"]);
    watched.forget();
    fs::remove_dir_all(watched.at("new")).unwrap();
    watched.says_all(&["-new/a", "/new"]);
    assert!(!watched.all().iter().any(|word| word.contains("not-in-a-space")));
}

#[test]
fn only_wanted_spaces_are_watched_and_they_may_change() {
    let folder = TempDir::new().unwrap();
    for name in ["s/d", "other/d/e/f"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let unwanted = Arc::new(AllBut::default());
    unwanted.0.lock().insert("other".to_owned());
    let mut watched = watch_at(folder.path(), |settings| settings.wanted = unwanted.clone());
    assert_eq!(watched.directories, 3, "the root, the space and its directory");
    watched.write("other/d/unseen");
    assert_eq!(watched.all(), [""; 0]);
    unwanted.0.lock().clear();
    watched.watch.reconsider();
    watched.says_all(&["*other", "+other/d/unseen"]);
    watched.write("other/d/e/f/seen");
    watched.says("+other/d/e/f/seen");
    unwanted.0.lock().insert("other".to_owned());
    watched.watch.reconsider();
    watched.forget();
    watched.write("other/d/unseen again");
    assert_eq!(watched.all(), [""; 0]);
    assert_eq!(watched.directories, 3);
}
