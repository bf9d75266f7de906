use futures::future::join_all;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_writers_in_two_processes_one_wins_each_state() {
    let scratch = Scratch::new();
    let stores = [scratch.store.clone(), scratch.other()];
    let mut when = Precondition::Absent;
    for round in 0..20 {
        let writers = (0..16).map(|n| {
            let (store, when) = (stores[n % 2].clone(), when.clone());
            async move { put(&store, "d/x", format!("{round} {n}").as_bytes(), properties(&[]), &when).await }
        });
        let (won, lost): (Vec<_>, Vec<_>) = join_all(writers).await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "round {round}");
        assert!(lost.into_iter().all(|lost| kind(lost) == StoreErrorKind::Precondition));
        when = Precondition::VersionIs(won.into_iter().next().unwrap().unwrap().version);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_and_deletes_of_neighbours_never_lose_an_item() {
    let scratch = Scratch::new();
    let stores = [scratch.store.clone(), scratch.other()];
    // While `d/x` comes and goes, and its directory with it, `d/1`, `d/2` … are written beside it.
    let coming_and_going = async {
        for _ in 0..100 {
            put(&stores[0], "d/x", b"x", properties(&[]), &Precondition::Always).await.unwrap();
            stores[0].delete(&at("d/x"), &Precondition::Always).await.unwrap();
        }
    };
    let beside = async {
        for n in 0..100 {
            let id = format!("d/{n}");
            put(&stores[1], &id, b"x", properties(&[]), &Precondition::Always).await.unwrap();
            assert!(head(&stores[1], &id).await.is_some());
            stores[1].delete(&at(&id), &Precondition::Always).await.unwrap();
        }
    };
    futures::future::join(coming_and_going, beside).await;
    assert!(ids(&scratch.store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reader_sees_an_item_whole_or_not_at_all_while_it_is_replaced() {
    let scratch = Scratch::new();
    let writing = async {
        for n in 0..50_u8 {
            scratch.put("x", &vec![n; 400_000], &Precondition::Always).await.unwrap();
        }
    };
    let other = scratch.other();
    let reading = async {
        for _ in 0..200 {
            let Presence::Present(reading) = other.open(&at("x"), None, None).await.unwrap() else { continue };
            match reading.body.try_collect::<Vec<Bytes>>().await {
                Ok(chunks) => {
                    let bytes = chunks.concat();
                    assert!(bytes.len() == 400_000 && bytes.iter().all(|byte| *byte == bytes[0]));
                }
                Err(error) => assert_eq!(error.kind, StoreErrorKind::Changed),
            }
        }
    };
    futures::future::join(writing, reading).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tidying_removes_what_the_dead_left_and_nothing_of_those_who_live() {
    let scratch = Scratch::new();
    let all = scratch.root().join(".mill-in-progress");
    let left = all.join("00000000000000aa");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("0"), b"half a fi").unwrap();
    scratch.other().remove_stale_uploads().await;
    assert!(!all.exists(), "nobody has anything in progress");

    let content = PutRequest::new(600_000, properties(&[]));
    let (read_more, rest) = tokio::sync::oneshot::channel::<()>();
    let piece = || Ok(Bytes::from(vec![1; 300_000]));
    let rest = stream::once(async move { piece_after(rest).await }).boxed();
    let body = stream::iter([piece()]).chain(rest).boxed();
    let item = at("x");
    let tidied = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::fs::create_dir_all(&left).unwrap();
        let other = scratch.other();
        other.remove_stale_uploads().await;
        assert!(all.exists() && !left.exists());
        read_more.send(()).unwrap();
    };
    let (put, ()) =
        futures::future::join(scratch.store.put(&item, &content, &Precondition::Absent, body), tidied).await;
    put.unwrap();
    assert_eq!(std::fs::read(scratch.path("x")).unwrap().len(), 600_000);
}

async fn piece_after(read_more: tokio::sync::oneshot::Receiver<()>) -> Result<Bytes, StoreError> {
    read_more.await.unwrap();
    Ok(Bytes::from(vec![1; 300_000]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_given_up_leaves_nothing_in_progress() {
    let scratch = Scratch::new();
    scratch.put("first", b"x", &Precondition::Always).await.unwrap();
    let content = PutRequest::new(1_000_000, properties(&[]));
    let stuck = stream::iter([Ok(Bytes::from(vec![1; 300_000]))]).chain(stream::pending()).boxed();
    let item = at("x");
    let put = scratch.store.put(&item, &content, &Precondition::Always, stuck);
    assert!(tokio::time::timeout(Duration::from_millis(200), put).await.is_err());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let own = std::fs::read_dir(scratch.root().join(".mill-in-progress")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::read_dir(own).unwrap().count(), 0);
}
