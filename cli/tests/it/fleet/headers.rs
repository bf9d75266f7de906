//! What a client sees of an object at a copy, beside what it sees at the original: every header, all metadata and the tags.

use super::mirror::mirror;
use super::{boto, ministack, seaweed, signature_server};
use crate::world::World;

/// Two hundred objects, each with some headers, metadata and tags, at random by a seed; and as many kinds of value as there are, by
/// themselves.
const PLANT: &str = r#"
import random, urllib.parse
chance = random.Random(12)
headers = {
    'CacheControl': ['no-cache', 'max-age=1,  public', 'a  b', '=?UTF-8?B?YQ==?='],
    'ContentDisposition': ['attachment; filename="a  b.pdf"', 'inline', "attachment; filename*=UTF-8''%c3%a9"],
    'ContentEncoding': ['gzip', 'gzip, br', 'identity'],
    'ContentLanguage': ['de', 'de,  en'],
    'ContentType': ['text/plain', 'text/plain; charset=utf-8', 'x/y;  z=1', 'binary/octet-stream'],
    'Expires': ['0', '-1', 'Wed, 21 Oct 2026 07:28:00 GMT', 'Wed, 1 Oct 2026 07:28:00 GMT',
                'Wednesday, 21-Oct-26 07:28:00 GMT', 'Wed Oct 21 07:28:00 2026', '2026-10-21', 'never'],
    'WebsiteRedirectLocation': ['/other', 'https://example.org/a%20b'],
}
names = ['note', 'content-type', 'content-encoding', 'expires', 'cache-control', 'a_b.c', 'user+tag', 'x-amz-meta-note', "a!b'c", 'a|b~c']
values = ['v', 'a  b', '=?UTF-8?Q?caf=C3=A9?=', '=?UTF-8?B?w6k=?=', '=?UTF-8?B?YQ==?=', '=?ISO-8859-1?Q?a?=', '=?', '=?x?=', '"q"', 'k=v; w', '0', 'v' * 500]

tag_sets = ['', '', 'a=b', 'a%20b=%C3%A9%26%3D%2B&empty=', '&'.join(f'k{n}=v{n}' for n in range(10))]

def put(s3, key, headers, metadata, tags=''):
    headers = dict(headers)
    expires = headers.pop('Expires', None)
    def raw(request, **_):
        if expires is not None: request.headers['Expires'] = expires
    s3.meta.events.register('before-sign.s3.PutObject', raw, unique_id='raw')
    tagging = {'Tagging': tags} if tags else {}
    s3.put_object(Bucket='original', Key=key, Body=key.encode(), Metadata=metadata, **headers, **tagging)
    s3.meta.events.unregister('before-sign.s3.PutObject', unique_id='raw')

s3 = client('s3', ENDPOINT)
s3.create_bucket(Bucket='original')
for name, kinds in headers.items():
    for n, value in enumerate(kinds): put(s3, f'header/{name}/{n}', {name: value}, {})
for n, name in enumerate(names):
    for m, value in enumerate(values): put(s3, f'metadata/{n}/{m}', {}, {name: value})
for n in range(200):
    some = {name: chance.choice(kinds) for name, kinds in headers.items() if chance.random() < 0.4}
    noted = {name: chance.choice(values) for name in names if chance.random() < 0.2}
    put(s3, f'random/{n}', some, noted, chance.choice(tag_sets))
print(len([o for page in s3.get_paginator('list_objects_v2').paginate(Bucket='original') for o in page['Contents']]))
"#;

/// Compares what the server itself answers, header by header, and the tags. Prints the keys that are in the
/// first bucket alone, and those whose tags differ.
const COMPARE: &str = r"
from email.header import decode_header, make_header

def text(value):
    # Some services read the encoded words of metadata, and return the text in a form of their own.
    try: return str(make_header(decode_header(value))) if '=?' in value else value
    except (LookupError, ValueError): return value

def seen(s3, bucket, key):
    headers = s3.head_object(Bucket=bucket, Key=key)['ResponseMetadata']['HTTPHeaders']
    names = ['cache-control', 'content-disposition', 'content-encoding', 'content-language', 'content-type', 'expires', 'x-amz-website-redirect-location']
    seen = {name: value for name, value in headers.items() if name in names}
    seen |= {name: text(value) for name, value in headers.items() if name.startswith('x-amz-meta-')}
    # A word about the transfer of the request, which says nothing of the content.
    encodings = [word.strip() for word in seen.pop('content-encoding', '').split(',')]
    if 'aws-chunked' in encodings: encodings.remove('aws-chunked')
    if encodings != ['']: seen['content-encoding'] = ','.join(encodings)
    return seen

def tags(s3, bucket, key):
    try: return sorted((t['Key'], t['Value']) for t in s3.get_object_tagging(Bucket=bucket, Key=key)['TagSet'])
    except s3.exceptions.ClientError as error:
        assert error.response['Error']['Code'] == 'NotImplemented', error
        return []

def keys(s3, bucket):
    return [o['Key'] for page in s3.get_paginator('list_objects_v2').paginate(Bucket=bucket) for o in page.get('Contents', [])]

copied = set(keys(b, TO))
for key in copied:
    before, after = seen(a, FROM, key), seen(b, TO, key)
    assert before == after, (key, before, after)
    before, after = tags(a, FROM, key), tags(b, TO, key)
    if before != after: print('lost', key)
for key in keys(a, FROM):
    if key not in copied: print('missing', key)
";

/// A server, and the profile with a key for it.
struct Server {
    endpoint: String,
    profile: &'static str,
    key: [&'static str; 2],
}

impl Server {
    fn client(&self) -> String {
        format!("client('s3', '{}', '{}', '{}')", self.endpoint, self.key[0], self.key[1])
    }
}

#[test]
fn a_client_sees_every_header_at_a_copy_of_a_copy_as_at_the_original() {
    let world = World::new();
    std::fs::create_dir(world.path("vendor")).unwrap();
    let anyone = |endpoint: String| Server { endpoint, profile: "anyone", key: ["test", "test"] };
    let first = anyone(ministack().to_owned());
    let weed = Server { endpoint: seaweed::start(), profile: "weed", key: [seaweed::KEY, seaweed::SECRET] };
    // The other two take no `Expires` that is no date; seaweed drops redirects, and the last takes no word that it cannot
    // read. Those items are refused by name.
    let strict = anyone(signature_server::serve(&world.path("vendor"), "test", "test"));
    let profiles = [&first, &weed].map(|server| {
        let (name, [id, secret]) = (server.profile, server.key);
        format!("[{name}]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    });
    world.write("home/.aws/credentials", profiles.concat());
    let planted = boto(&world, &PLANT.replace("ENDPOINT", &format!("'{}'", first.endpoint)));
    let planted: usize = planted.trim().parse().unwrap();
    assert!(planted > 300, "{planted}");
    let hops = [
        ((&first, "original"), (&first, "second"), 0),
        ((&first, "second"), (&weed, "third"), planted / 2),
        ((&weed, "third"), (&first, "fourth"), 0),
        ((&first, "original"), (&strict, "strict"), planted / 2),
    ];
    for ((source, from), (destination, to), refused_max) in hops {
        boto(&world, &format!("{}.create_bucket(Bucket='{to}')", destination.client()));
        let ends = [format!("s3://{from}"), format!("s3://{to}")];
        let mut args = ends.each_ref().map(String::as_str).to_vec();
        args.extend(["--source-endpoint", &source.endpoint, "--source-profile", source.profile]);
        args.extend(["--destination-endpoint", &destination.endpoint, "--destination-profile", destination.profile]);
        let ran = mirror(&world, &args);
        let remarks = ran.json()["remarks"].to_string();
        let compare = COMPARE.replace("FROM", &format!("'{from}'")).replace("TO", &format!("'{to}'"));
        let missing = boto(&world, &format!("a, b = {}, {}\n{compare}", source.client(), destination.client()));
        let of = |sort: &str| missing.lines().filter_map(|line| line.strip_prefix(sort)).collect::<Vec<_>>();
        let (missing, tagless) = (of("missing "), of("lost "));
        println!("{from} to {to}: of {planted} {} refused, {} without tags", missing.len(), tagless.len());
        assert_eq!(ran.code, if missing.is_empty() && tagless.is_empty() { 0 } else { 2 }, "{remarks} {}", ran.err);
        for key in &missing {
            assert!(remarks.contains(key), "{key} is neither copied nor named: {remarks}");
        }
        for key in &tagless {
            assert!(remarks.contains(&format!("copied in part: `{key}`: ")), "{key} has lost its tags: {remarks}");
        }
        assert_eq!(tagless.is_empty(), to != "strict", "only the last has no tags: {tagless:?}");
        assert!(missing.len() <= refused_max, "{missing:?}: {remarks}");
        // What was copied is in sync.
        let json = mirror(&world, &args).json();
        assert_eq!((json["copied"].as_u64(), json["updated"].as_u64()), (Some(0), Some(0)), "{json}");
    }
    // A change of properties alone that the last server does not take.
    let changed = "header/CacheControl/0";
    let change = PLANT.split("s3 = client").next().unwrap();
    boto(&world, &format!("{change}put({}, '{changed}', {{'Expires': 'never'}}, {{}})", first.client()));
    let args = ["s3://original", "s3://strict", "--source-endpoint", &first.endpoint, "--source-profile", "anyone"];
    let at = ["--destination-endpoint", &strict.endpoint, "--destination-profile", "anyone"];
    let ran = mirror(&world, &[&args[..], &at].concat()).expect(2);
    let remarks = ran.json()["remarks"].to_string();
    assert!(remarks.contains(&format!("not copied: `{changed}`: this store cannot hold its properties")), "{remarks}");
}

/// Services compute headers of these names too.
#[test]
fn a_change_of_metadata_that_is_named_as_a_computed_header_arrives() {
    let (world, endpoint) = (World::new(), ministack());
    let put = |value: &str| {
        let named = "{n: VALUE for n in ['date', 'etag', 'content-md5', 'content-length', 'last-modified']}";
        let metadata = named.replace("VALUE", &format!("'{value}'"));
        format!("client('s3', '{endpoint}').put_object(Bucket='named', Key='x', Body=b'x', Metadata={metadata})\n")
    };
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='named')\n{}", put("one")));
    let args = ["s3://named", "s3://named-copy", "--source-endpoint", endpoint, "--destination-endpoint", endpoint];
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='named-copy')"));
    mirror(&world, &args).expect(0);
    boto(&world, &put("other"));
    let json = mirror(&world, &args).expect(0).json();
    assert_eq!(json["updated"], 1, "{json}");
    let seen = format!("print(client('s3', '{endpoint}').head_object(Bucket='named-copy', Key='x')['Metadata'])");
    let seen = boto(&world, &seen);
    assert_eq!(seen.matches("'other'").count(), 5, "{seen}");
}
