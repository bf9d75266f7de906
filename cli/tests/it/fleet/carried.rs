//! What a copy has of its original, as Python sees it, and what a run says that it left behind.

use super::mirror::mirror;
use super::{boto, ministack, seaweed};
use crate::world::World;

/// A tree with everything that a file or folder can have.
const TREE: &str = r"
import os, struct
def file(name, text, mode, ns):
    os.makedirs(os.path.dirname('src/' + name), exist_ok=True)
    with open('src/' + name, 'wb') as out: out.write(text)
    os.chmod('src/' + name, mode)
    os.utime('src/' + name, ns=(ns, ns))
file('plain', b'text', 0o644, 1234567890123456789)
file('before 1970', b'text', 0o400, -5000000001)
file('runs as its owner', b'text', 0o4755, 10**18)
file('private/x', b'text', 0o644, 10**18)
file('line\nbreak', b'', 0o600, 10**18)
with open('src/sparse', 'wb') as out: out.truncate(300000)
file('noted', b'text', 0o644, 10**18)
os.setxattr('src/noted', 'user.note', b'a')
file('listed', b'text', 0o660, 10**18)
entries = [(1, 6, 2**32 - 1), (2, 6, 1234), (4, 4, 2**32 - 1), (0x10, 6, 2**32 - 1), (0x20, 0, 2**32 - 1)]
os.setxattr('src/listed', 'system.posix_acl_access', struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries))
file('linked', b'text', 0o644, 10**18)
os.link('src/linked', 'src/linked again')
file('owned', b'text', 0o644, 10**18)
os.chown('src/owned', 1234, 1234)
os.makedirs('src/empty')
os.chmod('src/empty', 0o750)
os.symlink('plain', 'src/link')
os.mkfifo('src/pipe')
os.chmod('src/private', 0o700)
";

/// Compares the trees: a name, and what of it is not as at the source.
const COMPARE: &str = r"
import os, stat
def seen(name):
    at = os.lstat(name)
    mode = oct(stat.S_IMODE(at.st_mode))
    if stat.S_ISDIR(at.st_mode): return {'mode': mode}
    if not stat.S_ISREG(at.st_mode): return {'kind': 'special'}
    names = [n for n in os.listxattr(name) if not n.startswith(('user.mill.', 'security.'))]
    return {'mode': mode, 'mtime': at.st_mtime_ns, 'bytes': hash(open(name, 'rb').read()), 'owner': at.st_uid, 'links': at.st_nlink, 'attributes': names}
for folder, directories, files in os.walk('src'):
    for name in sorted(directories + files):
        path = os.path.relpath(os.path.join(folder, name), 'src')
        a = seen(os.path.join('src', path))
        b = seen(os.path.join('BACK', path)) if os.path.lexists(os.path.join('BACK', path)) else {}
        differs = [f'{key} {a.get(key)} {b.get(key)}' for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
        if differs: print(path, differs)
print(sorted(set(os.listdir('BACK')) - set(os.listdir('src'))))
";

#[test]
fn what_comes_back_from_s3_or_another_folder_is_what_the_table_says() {
    let (world, endpoint) = (World::new(), ministack());
    boto(&world, TREE);
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='carried')"));
    let left = "copied without all that the originals have: owner of 1 item, access list of 1 item, extended attributes of 1 item, \
                further names (hard links) of 2 items; this is no fault (docs/what-is-carried.md)";
    let ways = [
        (vec!["src", "s3://carried", "--destination-endpoint", endpoint], None),
        (vec!["s3://carried", "back", "--source-endpoint", endpoint], Some(("back", "0o755"))),
        (vec!["src", "beside"], Some(("beside", "0o700"))),
    ];
    for (args, copy) in ways {
        let from_folder = args[0] == "src";
        let json = mirror(&world, &args).expect(if from_folder { 2 } else { 0 }).json();
        let remarks = json["remarks"].to_string();
        assert_eq!(remarks.matches(left).count(), usize::from(from_folder), "{remarks}");
        let counted = ["owners_left", "access_lists_left", "attributes_left", "hard_links_left", "tags_left"];
        let counted = counted.map(|name| json[name].as_u64().unwrap());
        assert_eq!(counted, if from_folder { [1, 1, 1, 2, 0] } else { [0; 5] }, "{json}");
        let Some((copy, mode)) = copy else { continue };
        let differs = boto(&world, &COMPARE.replace("BACK", copy));
        let mut expected = vec![
            "link ['kind special None']".to_owned(),
            "linked ['links 2 1']".to_owned(),
            "linked again ['links 2 1']".to_owned(),
            "listed [\"attributes ['system.posix_acl_access'] []\", 'mode 0o660 0o640']".to_owned(),
            "noted [\"attributes ['user.note'] []\"]".to_owned(),
            "owned ['owner 1234 0']".to_owned(),
            "pipe ['kind special None']".to_owned(),
            "runs as its owner ['mode 0o4755 0o755']".to_owned(),
            "[]".to_owned(),
        ];
        if mode != "0o700" {
            expected.push(format!("private ['mode 0o700 {mode}']"));
        }
        let mut differs: Vec<&str> = differs.lines().collect();
        differs.sort_unstable();
        expected.sort();
        assert_eq!(differs, expected, "{copy}");
    }
}

#[test]
fn tags_of_small_and_large_objects_are_at_the_copy() {
    let (world, endpoint, weed) = (World::new(), ministack(), seaweed::start());
    world.write(
        "home/.aws/credentials",
        format!("[weed]\naws_access_key_id = {}\naws_secret_access_key = {}\n", seaweed::KEY, seaweed::SECRET),
    );
    let clients = format!(
        "a, b = client('s3', '{endpoint}'), client('s3', '{weed}', '{}', '{}')\n",
        seaweed::KEY,
        seaweed::SECRET
    );
    let plant = "
a.create_bucket(Bucket='tagged')
b.create_bucket(Bucket='tagged-copy')
a.put_object(Bucket='tagged', Key='small', Body=b'x', Tagging='a%20b=%C3%A9%26%3D%2B&empty=')
a.put_object(Bucket='tagged', Key='large', Body=b'x' * (9 << 20), Tagging='&'.join(f'k{n}=v{n}' for n in range(10)))
a.put_object(Bucket='tagged', Key='plain', Body=b'x')";
    boto(&world, &format!("{clients}{plant}"));
    let at = ["--source-endpoint", endpoint, "--destination-endpoint", &weed, "--destination-profile", "weed"];
    let args = [&["s3://tagged", "s3://tagged-copy"][..], &at].concat();
    let json = mirror(&world, &args).expect(0).json();
    let counted = [&json["copied"], &json["tags_left"], &json["remarks"]];
    assert_eq!(counted, [&3.into(), &0.into(), &serde_json::json!([])], "{json}");
    let compare = "
def tags(s3, bucket, key): return sorted((t['Key'], t['Value']) for t in s3.get_object_tagging(Bucket=bucket, Key=key)['TagSet'])
for key in ['small', 'large', 'plain']: assert tags(a, 'tagged', key) == tags(b, 'tagged-copy', key), key
print(tags(b, 'tagged-copy', 'small'), len(tags(b, 'tagged-copy', 'large')), tags(b, 'tagged-copy', 'plain'))";
    let same = "[('a b', 'é&=+'), ('empty', '')] 10 []";
    assert_eq!(boto(&world, &format!("{clients}{compare}")).trim(), same);
    // A change of properties alone keeps them.
    let change = "
for key, size, tags in [('small', 1, 'a%20b=%C3%A9%26%3D%2B&empty='), ('large', 9 << 20, '&'.join(f'k{n}=v{n}' for n in range(10)))]:
    a.put_object(Bucket='tagged', Key=key, Body=b'x' * size, Tagging=tags, CacheControl='no-cache')";
    boto(&world, &format!("{clients}{change}"));
    assert_eq!(mirror(&world, &args).expect(0).json()["updated"], 2);
    assert_eq!(boto(&world, &format!("{clients}{compare}")).trim(), same);
}

#[test]
fn a_change_of_properties_keeps_class_key_and_tags_of_the_copy() {
    let (world, endpoint) = (World::new(), ministack());
    let key = "arn:aws:kms:us-east-1:000000000000:key/1";
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
for name in ['changed', 'changed-copy']: s3.create_bucket(Bucket=name)
s3.put_object(Bucket='changed', Key='x', Body=b'x', WebsiteRedirectLocation='/other')"
        ),
    );
    let args = ["s3://changed", "s3://changed-copy", "--source-endpoint", endpoint, "--destination-endpoint", endpoint];
    mirror(&world, &args).expect(0);
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.put_object(Bucket='changed-copy', Key='x', Body=b'x', WebsiteRedirectLocation='/other', StorageClass='STANDARD_IA', Tagging='a=b',
              ServerSideEncryption='aws:kms', SSEKMSKeyId='{key}')
s3.put_object(Bucket='changed', Key='x', Body=b'x', WebsiteRedirectLocation='/other', CacheControl='no-cache')"
        ),
    );
    assert_eq!(mirror(&world, &args).expect(0).json()["updated"], 1);
    let seen = boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
seen = s3.head_object(Bucket='changed-copy', Key='x')
print(*[seen.get(k) for k in ['CacheControl', 'StorageClass', 'SSEKMSKeyId', 'WebsiteRedirectLocation']])
print([t['Value'] for t in s3.get_object_tagging(Bucket='changed-copy', Key='x')['TagSet']])"
        ),
    );
    assert_eq!(seen.trim(), format!("no-cache STANDARD_IA {key} /other\n['b']"));
}

#[test]
fn what_objects_have_and_no_copy_gets_is_counted_and_said_once() {
    let (world, endpoint) = (World::new(), ministack());
    boto(
        &world,
        &format!(
            "s3 = client('s3', '{endpoint}')
s3.create_bucket(Bucket='classed')
for n in range(3): s3.put_object(Bucket='classed', Key=f'cold/{{n}}', Body=b'x', StorageClass='STANDARD_IA')
s3.put_object(Bucket='classed', Key='usual', Body=b'x', StorageClass='STANDARD')
s3.put_object(Bucket='classed', Key='key', Body=b'x', ServerSideEncryption='aws:kms', SSEKMSKeyId='arn:aws:kms:us-east-1:000000000000:key/1')
s3.put_object(Bucket='classed', Key='tagged', Body=b'x', Tagging='a=b')"
        ),
    );
    let args = ["s3://classed", "copy", "--source-endpoint", endpoint];
    let json = mirror(&world, &args).expect(0).json();
    let left = "copied without all that the originals have: storage class of 3 items, encryption key of 1 item, tags of 1 item; this \
                is no fault (docs/what-is-carried.md)";
    assert_eq!(json["remarks"], serde_json::json!([left]), "{json}");
    assert_eq!(mirror(&world, &args).expect(0).json()["remarks"], serde_json::json!([]));
}
