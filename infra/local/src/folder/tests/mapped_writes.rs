//! Files that another program writes through a memory mapping. Needs Python, and a file system that writes pages back.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use mill_trials::{FileSystem, LoopDisk, in_mount_namespace};

use super::*;

const PAGE: usize = 4096;

/// A process with a mapped file, which writes one byte of a page for each command.
struct Writer {
    child: Child,
    told: BufReader<ChildStdout>,
}

impl Writer {
    fn of(file: &Path) -> Self {
        let script = "
import mmap, os, sys
with open(sys.argv[1], 'r+b') as file:
    mapped = mmap.mmap(file.fileno(), 0)
for line in sys.stdin:
    page, byte = map(int, line.split())
    mapped[page * 4096] = byte
    print('written', flush=True)
";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(child.stdout.take().unwrap());
        Self { child, told }
    }

    fn write(&mut self, page: usize, byte: u8) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{page} {byte}").unwrap();
        let mut line = String::new();
        self.told.read_line(&mut line).unwrap();
        assert_eq!(line, "written\n");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

/// Runs on its own ext4: the usual scratch folder may be in memory.
fn on_ext4(test: impl AsyncFnOnce(&Path) + Send + 'static) {
    in_mount_namespace(move || {
        let scratch = TempDir::new().unwrap();
        let disk = LoopDisk::create(&scratch.path().join("image"), 64 << 20)?;
        disk.format(FileSystem::Ext4)?;
        let mount = disk.mount(FileSystem::Ext4, &scratch.path().join("disk"), "")?;
        std::fs::create_dir(mount.path().join("s")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(mount.path()));
        drop(runtime);
        mount.unmount();
        Ok(())
    });
}

#[test]
fn a_page_written_again_through_a_mapping_after_it_was_read_is_another_version() {
    on_ext4(async |root| {
        let store = store_at(root, Layout::Spaces, None);
        for old in [true, false] {
            let path = root.join(format!("s/{old}"));
            std::fs::write(&path, vec![0; 4 * PAGE]).unwrap();
            let mut writer = Writer::of(&path);
            writer.write(1, 1);
            if old {
                tokio::time::sleep(Duration::from_millis(2_100)).await;
            }
            let id = old.to_string();
            let reading = store.open(&at(&id), None, None).await.unwrap().present().unwrap();
            let (seen, bytes) =
                (reading.facts.version, reading.body.try_collect::<Vec<Bytes>>().await.unwrap().concat());
            assert_eq!(bytes[PAGE], 1);
            // The read of a young file waits until it is settled.
            assert!(seen.settled());
            // Without a flush, neither of its times would change now.
            std::thread::sleep(Duration::from_millis(20));
            writer.write(1, 2);
            assert_ne!(head(&store, &id).await.unwrap().version, seen);
        }
        store.finish().await;
    });
}

#[test]
fn a_file_written_through_a_mapping_while_it_is_read_is_never_a_copy_of_two_moments() {
    on_ext4(async |root| {
        let store = store_at(root, Layout::Spaces, None);
        let pages = 100;
        std::fs::write(root.join("s/x"), vec![0; pages * PAGE]).unwrap();
        let mut writer = Writer::of(&root.join("s/x"));
        for page in [0, pages - 1] {
            writer.write(page, 1);
        }
        for pause in [2_100, 0] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let mut body = store.open(&at("x"), None, None).await.unwrap().present().unwrap().body;
            let first = body.next().await.unwrap().unwrap();
            assert!(first.len() < pages * PAGE);
            std::thread::sleep(Duration::from_millis(20));
            for page in [0, pages - 1] {
                writer.write(page, 2);
            }
            let rest = body.try_collect::<Vec<Bytes>>().await;
            assert_eq!(kind(rest), StoreErrorKind::Changed);
        }
        store.finish().await;
    });
}
