//! The rights of directories that are made on the way to an item.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};

use super::*;

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

async fn copy(from: &FolderStore, to: &FolderStore, id: &str) {
    let opened = from.open(&at(id), None, None).await.unwrap().present().unwrap();
    let properties = opened.facts.properties.unwrap();
    let content = PutRequest { size: opened.facts.size, properties, attachments: opened.attachments };
    to.put(&at(id), &content, &Precondition::Absent, opened.body).await.unwrap();
}

#[test]
fn directories_of_a_copy_grant_no_more_than_those_of_the_source() {
    as_nobody(async {
        let (source, copied) = (Scratch::new(), Scratch::new());
        for (directory, given) in [("private", 0o700), ("closed", 0o500), ("shared", 0o750), ("open", 0o755)] {
            source.file(&format!("{directory}/deep/x"), b"bytes");
            std::fs::create_dir(source.path(&format!("{directory}/deep/empty"))).unwrap();
            allow(&source.path(&format!("{directory}/deep/empty")), 0o700);
            allow(&source.path(&format!("{directory}/deep")), 0o711);
            allow(&source.path(directory), given);
            for id in ["deep/x", "deep/empty/"] {
                copy(&source.store, &copied.store, &format!("{directory}/{id}")).await;
            }
            // Its owner may write in it, as Mill must.
            assert_eq!(mode(&copied.path(directory)), given | 0o700, "{directory}");
            assert_eq!(mode(&copied.path(&format!("{directory}/deep"))), 0o711, "{directory}");
            assert_eq!(mode(&copied.path(&format!("{directory}/deep/empty"))), 0o700, "{directory}");
            allow(&source.path(directory), 0o700);
        }
        // One that cannot be listed: what an access list gives to its group cannot be seen.
        source.file("dark/x", b"bytes");
        allow(&source.path("dark"), 0o371);
        copy(&source.store, &copied.store, "dark/x").await;
        assert_eq!(mode(&copied.path("dark")), 0o701);
        allow(&source.path("dark"), 0o700);
    });
}

#[tokio::test]
async fn a_directory_gives_its_group_what_an_access_list_gives_it_and_not_the_mask() {
    let (source, copied) = (Scratch::new(), Scratch::new());
    source.file("d/x", b"bytes");
    let directory = std::fs::File::open(source.path("d")).unwrap();
    let list = held::access_list(0);
    rustix::fs::fsetxattr(&directory, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()).unwrap();
    assert_eq!(mode(&source.path("d")), 0o660, "the mode shows the mask");
    copy(&source.store, &copied.store, "d/x").await;
    assert_eq!(mode(&copied.path("d")), 0o700);
}
