//! What happens beyond the limits of the system and of memory.

use super::*;

#[test]
fn a_queue_that_overflows_is_said_and_what_appeared_meanwhile_is_watched() {
    let mut watched = watched(|root| fs::create_dir(root.join("s")).unwrap());
    {
        // Nobody reads the kernel's queue.
        let _held = watched.watch.inbox.hold();
        let queue: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        for number in 0..queue {
            watched.write(&format!("s/{}", number % 1000));
        }
        fs::create_dir_all(watched.at("s/unseen/deep")).unwrap();
    }
    watched.says("?all spaces Overflow");
    watched.write("s/unseen/deep/later");
    watched.says("+s/unseen/deep/later");
    let said = watched.said.iter().find_map(|hint| match hint {
        FolderHint::Rescan(rescan) => Some(rescan.reason.to_string()),
        _ => None,
    });
    assert!(said.unwrap().contains("max_queued_events"));
}

#[test]
fn reports_beyond_what_is_kept_are_said_to_be_lost() {
    use notify::event::{CreateKind, EventKind};
    use notify::{Event, EventHandler as _};

    let inbox = Arc::new(Inbox::new(2));
    let generation = inbox.begin_anew();
    let mut reporter = inbox::InboxFiller { inbox: inbox.clone(), generation, root: "/r".into() };
    for name in ["/r/s/a", "/r/s/b", "/r/s/b", "/elsewhere"] {
        reporter.handle_event(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(name.into())));
    }
    let received = inbox.wait(Duration::ZERO).unwrap();
    assert_eq!((received.reports.len(), received.lost), (2, None), "a repeat takes no place");
    for name in ["/r/s/a", "/r/s/b", "/r/s/c"] {
        reporter.handle_event(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(name.into())));
    }
    let received = inbox.wait(Duration::ZERO).unwrap();
    assert_eq!((received.reports.len(), received.lost), (2, Some(RescanReason::TooMany)));
}

#[test]
fn more_changes_than_are_remembered_are_one_rescan_of_their_space() {
    let folder = TempDir::new().unwrap();
    for name in ["s", "quiet"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut watched = watch_at(folder.path(), |settings| {
        settings.limits.pending_max = 100;
        settings.pace.linger = Duration::from_secs(1);
    });
    watched.write("quiet/file");
    for number in 0..500 {
        watched.write(&format!("s/{number}"));
    }
    watched.says_all(&["?space `s` TooMany", "+quiet/file"]);
    assert!(watched.said.len() < 150, "{}", watched.said.len());
    watched.write("s/later");
    watched.says("+s/later");
}

#[test]
fn a_burst_while_nobody_takes_batches_is_kept_and_told_in_few() {
    let mut watched = watched(|root| fs::create_dir(root.join("s")).unwrap());
    for number in 0..3_000 {
        watched.write(&format!("s/{number}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    let mut batches = 0;
    while watched.said.len() < 3_000 && watched.take(PATIENCE) {
        batches += 1;
    }
    assert!(watched.said.len() >= 3_000, "{}", watched.said.len());
    assert!(batches < 60, "{batches}");
}

#[test]
fn directories_beyond_the_limit_are_left_to_the_loop_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    for number in 0..10 {
        fs::create_dir_all(folder.path().join(format!("s/{number}/deep"))).unwrap();
    }
    fs::create_dir(folder.path().join("t")).unwrap();
    let mut watched = watch_at(folder.path(), |settings| settings.limits.directories_max = Some(8));
    assert_eq!(watched.directories, 8);
    assert!(watched.left > 0);
    let rescans: Vec<String> = watched.words().into_iter().filter(|word| word.starts_with('?')).collect();
    assert!(rescans.len() == 1 && rescans[0].ends_with("WatchLimit"), "one line for the space: {rescans:?}");
    let FolderHint::Rescan(rescan) = &watched.said[0] else { panic!("{:?}", watched.said) };
    assert!(rescan.reason.is_lasting());
    assert!(rescan.reason.to_string().contains("sysctl fs.inotify.max_user_watches="));
    // What is watched still is, and the limit is said once.
    watched.forget();
    fs::create_dir(watched.at("s/new")).unwrap();
    watched.write("s/file");
    watched.says("+s/file");
    assert!(!watched.words().iter().any(|word| word.starts_with('?')), "{:?}", watched.words());
}

#[test]
fn what_was_left_is_tried_again_and_its_changes_meanwhile_are_to_be_listed() {
    let folder = TempDir::new().unwrap();
    for name in ["s/a/deep", "s/b/deep"] {
        fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    let mut watched = watch_at(folder.path(), |settings| {
        settings.limits.directories_max = Some(4);
        settings.pace.retry_every = Duration::from_secs(1);
    });
    assert_eq!((watched.directories, watched.left), (4, 1));
    // Its watches become free.
    for name in ["s/a/deep", "s/b/deep", "s/b", "s/a"] {
        fs::remove_dir(watched.at(name)).unwrap();
    }
    fs::create_dir(watched.at("s/new")).unwrap();
    watched.write("s/new/file");
    watched.says("+s/new/file");
    assert_eq!(watched.left, 0);
}

#[test]
fn the_limits_of_the_system_are_named_with_the_way_out() {
    let words = RescanReason::InstanceLimit.to_string();
    assert!(words.contains("sysctl fs.inotify.max_user_instances="), "{words}");
}

#[test]
fn an_event_that_asks_for_a_rescan_without_any_path_is_asked_first() {
    use notify::event::{EventKind, Flag};
    use notify::{Event, EventHandler as _};

    let inbox = Arc::new(Inbox::new(10));
    let generation = inbox.begin_anew();
    let mut reporter = inbox::InboxFiller { inbox: inbox.clone(), generation, root: "/r".into() };
    reporter.handle_event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    assert_eq!(inbox.wait(Duration::ZERO).unwrap().lost, Some(RescanReason::Overflow));
    reporter.handle_event(Err(notify::Error::generic("cannot read")));
    let lost = inbox.wait(Duration::ZERO).unwrap().lost;
    assert_eq!(lost, Some(RescanReason::Unread("cannot read".to_owned())));
    // A watcher that was replaced is not listened to.
    inbox.begin_anew();
    reporter.handle_event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
    assert_eq!(inbox.wait(Duration::ZERO).unwrap().lost, None);
}
