//! Reads what the disk has. Needs a disk with bad blocks.

use std::fs::File;
use std::io::{Read as _, Write as _};

use mill_trials::fuse::FlakyDisk;
use mill_trials::{FileSystem, LoopDisk, in_mount_namespace};

use super::super::uncached::{ReadMode, may_be_cached};
use super::*;

const MARK: &[u8] = b"marked";

#[test]
fn bytes_that_a_disk_refused_are_in_the_cache_and_in_no_uncached_reading() {
    in_mount_namespace(|| {
        let scratch = TempDir::new().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let flaky = FlakyDisk::serve(&path("image"), 64 << 20, &path("served"))?;
        let disk = LoopDisk::attach(flaky.file())?;
        disk.format(FileSystem::Ext4)?;
        let mount = disk.mount(FileSystem::Ext4, &path("disk"), "")?;
        std::fs::create_dir(path("disk/s")).unwrap();
        let written = [MARK, &[7; 10_000][..]].concat();
        let plant = |id: &str| {
            let mut file = File::create(path("disk/s").join(id)).unwrap();
            file.write_all(&written).unwrap();
            file.sync_all()
        };
        plant("good").unwrap();
        flaky.fail_writes_starting_with(MARK, 0..16_384);
        plant("bad").unwrap_err();
        plant("bad too").unwrap_err();
        flaky.repair();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = store_at(&path("disk"), Layout::Spaces, None);
            let uncached = async |id: &str| {
                let reading = store.open_uncached(&at(id), None).await.unwrap().present().unwrap();
                reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat()
            };
            assert_eq!(read(&store, "bad").await.unwrap(), written, "the cache calls them written");
            assert_ne!(uncached("bad").await, written);
            assert_eq!(uncached("good").await, written);
            store.finish().await;
        });
        drop(runtime);
        // The same on a file system without `O_DIRECT`.
        for (id, same) in [("good", true), ("bad too", false)] {
            let mut file = File::open(path("disk/s").join(id)).unwrap();
            assert!(same || may_be_cached(&file, 0, 8_192), "it was written just now");
            assert_eq!(ReadMode::evicting_cache(&file).unwrap(), ReadMode::Evicted);
            // A page without data on the disk is read at once, and so counts as cached.
            assert!(!same || !may_be_cached(&file, 0, written.len()), "{id}");
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes == written, same, "{id}");
            assert!(may_be_cached(&file, 0, 1), "what was read is cached");
        }
        mount.unmount();
        Ok(())
    });
}

#[tokio::test]
async fn on_a_file_system_in_memory_the_cache_is_all_there_is() {
    let Ok(scratch) = tempfile::tempdir_in("/dev/shm") else {
        return mill_trials::MissingRequirement("there is no `/dev/shm` here".into()).report();
    };
    std::fs::create_dir(scratch.path().join("s")).unwrap();
    let store = store_at(scratch.path(), Layout::Spaces, None);
    let bytes = vec![7; 300_000];
    put(&store, "x", &bytes, properties(&[]), &Precondition::Absent).await.unwrap();
    let reading = store.open_uncached(&at("x"), None).await.unwrap().present().unwrap();
    assert_eq!(reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat(), bytes);
}
