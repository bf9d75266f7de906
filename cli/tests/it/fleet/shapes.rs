//! What a bucket can hold and a folder cannot: ids that exclude each other, and the directory markers of consoles.

use std::fs;

use super::{boto, ministack};
use crate::world::{Ran, World, walk};

fn mirror(world: &World, args: &[&str]) -> Ran {
    super::mirror::mirror(world, &[args, &["--detailed-exit-code"]].concat())
}

/// The files in a folder, by their relative paths.
fn files(world: &World, folder: &str) -> Vec<String> {
    let root = world.path(folder);
    let paths = walk(&root).into_iter().filter(|path| path.is_file());
    let mut names: Vec<String> =
        paths.map(|path| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn of_ids_that_a_folder_cannot_hold_together_the_same_one_wins_whatever_the_workers() {
    let (world, endpoint) = (World::new(), ministack());
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='crowded')
for n in range(40):
    for key in [f'{{n}}', f'{{n}}-x', f'{{n}}/b', f'{{n}}/b/c', f'deep/{{n}}/d/e', f'deep/{{n}}/d']:
        s3.put_object(Bucket='crowded', Key=key, Body=key.encode())"
        ),
    );
    let source = ["s3://crowded", "--source-endpoint", endpoint];
    let winners = |folder: &str, workers: &str| {
        let args = [&source[..1], &[folder], &source[1..], &["--workers", workers]].concat();
        let json = mirror(&world, &args).expect(2).json();
        assert_eq!((json["refused"].as_u64(), json["copied"].as_u64()), (Some(120), Some(120)), "{json}");
        assert_eq!(json["dead_lettered"], 0);
        assert!(json["remarks"].to_string().contains("its place is taken by"), "{json}");
        files(&world, folder)
    };
    let first = winners("one", "1");
    assert!(first.contains(&"7".to_owned()) && first.contains(&"deep/7/d".to_owned()), "{first:?}");
    for (folder, workers) in [("two", "256"), ("three", "7")] {
        assert_eq!(winners(folder, workers), first, "{workers} workers");
    }
    // A later run changes nothing, whatever came first there.
    fs::create_dir_all(world.path("other/7/b")).unwrap();
    fs::write(world.path("other/7/b/c"), "7/b/c").unwrap();
    for _ in 0..2 {
        mirror(&world, &[&source[..1], &["other"], &source[1..]].concat()).expect(2);
        let files = files(&world, "other");
        assert!(files.contains(&"7/b/c".to_owned()) && files.contains(&"8".to_owned()), "{files:?}");
    }
}

#[test]
fn the_sign_for_a_directory_is_in_sync_where_the_directory_is() {
    let (world, endpoint) = (World::new(), ministack());
    let script = |lines: &str| boto(&world, &format!("s3 = client('s3', '{endpoint}')\n{lines}"));
    script(
        "s3.create_bucket(Bucket='console')
for n in range(20):
    s3.put_object(Bucket='console', Key=f'{n}/', Body=b'')
    s3.put_object(Bucket='console', Key=f'{n}/file', Body=b'text')
s3.put_object(Bucket='console', Key='empty/', Body=b'')
s3.put_object(Bucket='console', Key='noted/', Body=b'', Metadata={'note': 'kept'})
s3.put_object(Bucket='console', Key='noted/file', Body=b'text')",
    );
    let to = ["s3://console", "dst", "--source-endpoint", endpoint, "--remove-vanished"];
    let json = mirror(&world, &to).expect(0).json();
    assert_eq!((json["refused"].as_u64(), json["listed"].as_u64()), (Some(0), Some(43)), "{json}");
    assert!(world.path("dst/empty").is_dir());
    assert_eq!(files(&world, "dst").len(), 21);
    // Once all are old enough for sync proofs, nothing is read again.
    let all_proven = (0..20).any(|_| {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let json = mirror(&world, &to).expect(1).json();
        assert_eq!(json["unchanged"], 43, "{json}");
        json["queued"] == 0
    });
    assert!(all_proven, "signs are queued again and again");
    // The directory's properties outlive its content.
    script("s3.delete_object(Bucket='console', Key='noted/file')");
    mirror(&world, &to).expect(0);
    assert!(world.path("dst/noted").is_dir());

    // Copied back to the bucket, no marker is created or removed.
    let from = ["dst", "s3://console", "--destination-endpoint", endpoint, "--remove-vanished"];
    mirror(&world, &from);
    let keys = script("print(sorted(o['Key'] for o in s3.list_objects_v2(Bucket='console')['Contents']))");
    assert!((0..20).all(|n| keys.contains(&format!("'{n}/'")) && keys.contains(&format!("'{n}/file'"))), "{keys}");
}
