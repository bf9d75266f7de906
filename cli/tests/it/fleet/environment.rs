//! What the tools of AWS hear in the environment, Mill hears too; and a pair is the same, however its service's address is given.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::tool;
use super::{CREDENTIALS, boto, ministack};
use crate::world::{Ran, World};

fn mill(world: &World, args: &[&str], env: &[(&str, &str)]) -> Ran {
    Ran::of(world.command().envs(CREDENTIALS).envs(env.iter().copied()).args(args).output().unwrap())
}

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/aws/testdata/authority.pem");

/// The same server behind TLS, with a certificate that only the test's authority vouches for.
struct Tls {
    process: Child,
    endpoint: String,
}

impl Tls {
    fn before(endpoint: &str, world: &World) -> Self {
        const SERVE: &str = "
import asyncio, ssl, sys, pathlib
there, pem, port = sys.argv[1], sys.argv[2], pathlib.Path('tls-port')
async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def serve(reader, writer):
    from_there, to_there = await asyncio.open_connection('127.0.0.1', int(there))
    await asyncio.gather(pump(reader, to_there), pump(from_there, writer), return_exceptions=True)
async def main():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(serve, '127.0.0.1', 0, ssl=context)
    pathlib.Path('tls-port.new').write_text(str(server.sockets[0].getsockname()[1]))
    pathlib.Path('tls-port.new').rename(port)
    await server.serve_forever()
asyncio.run(main())
";
        let pem = concat!(env!("CARGO_MANIFEST_DIR"), "/../infra/aws/testdata/of-authority.pem");
        let mut command = Command::new(tool("python"));
        command.args(["-c", SERVE, endpoint.rsplit(':').next().unwrap(), pem]).current_dir(world.path(""));
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut tls = Self { process, endpoint: String::new() };
        let port = world.path("tls-port");
        for _ in 0..300 {
            if let Ok(port) = fs::read_to_string(&port) {
                tls.endpoint = format!("https://127.0.0.1:{port}");
                return tls;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("the server with TLS did not begin");
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_mirror_trusts_the_authority_that_aws_ca_bundle_names() {
    let (world, endpoint) = (World::new(), ministack());
    let tls = Tls::before(endpoint, &world);
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='behind-tls')"));
    world.write("src/a", "a");
    let args = ["mirror", "src", "s3://behind-tls", "--json", "--give-up-after", "10s"];
    let at = ("AWS_ENDPOINT_URL", &*tls.endpoint);
    assert_eq!(mill(&world, &args, &[at, ("AWS_CA_BUNDLE", AUTHORITY)]).expect(0).json()["copied"], 1);
    let ran = mill(&world, &args, &[at]);
    assert!(ran.code != 0 && ran.err.contains("let AWS_CA_BUNDLE name"), "{}", ran.err);
}

#[test]
fn a_file_of_authorities_that_is_not_there_is_named_with_its_variable() {
    let world = World::new();
    world.write("src/a", "a");
    let missing = [("AWS_CA_BUNDLE", "/not/there.pem")];
    let named = "AWS_CA_BUNDLE names `/not/there.pem`, which cannot be read";
    let ran = mill(&world, &["mirror", "src", "s3://b"], &missing).expect(200);
    assert!(ran.err.contains(named), "{}", ran.err);
    world.mill(&["init", "."]).expect(0);
    world.write("mill.toml", "[engine]\ntype = \"aws\"\n");
    let ran = mill(&world, &["status"], &missing).expect(200);
    assert!(ran.err.contains(named), "{}", ran.err);
}

/// The flags of a command, and the variables of its environment.
type FlagsAndVariables<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)]);

fn states(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.path("state/mill/mirror")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn an_address_in_any_spelling_and_from_anywhere_is_one_mirror() {
    let (world, endpoint) = (World::new(), ministack());
    let port = endpoint.rsplit(':').next().unwrap();
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='one-pair')"));
    world.write("src/a", "a");
    world.write("home/.aws/config", format!("[profile nas]\nregion = us-east-1\nendpoint_url = {endpoint}/\n"));
    world.write("home/.aws/credentials", "[nas]\naws_access_key_id = test\naws_secret_access_key = test\n");
    let dead = ("AWS_ENDPOINT_URL", "http://127.0.0.1:9");
    let (slash, loud) = (format!("{endpoint}/"), format!("HTTP://LocalHost:{port}"));
    let ways: [FlagsAndVariables<'_>; 6] = [
        (&["--destination-endpoint", endpoint], &[]),
        (&["--destination-endpoint", &slash], &[dead]),
        (&["--destination-endpoint", &loud], &[]),
        (&["--destination-profile", "nas"], &[]),
        (&[], &[("AWS_ENDPOINT_URL", endpoint)]),
        (&[], &[("AWS_ENDPOINT_URL_S3", &slash), dead]),
    ];
    for (index, (flags, env)) in ways.into_iter().enumerate() {
        let args = [&["mirror", "src", "s3://one-pair", "--json"], flags].concat();
        let json = mill(&world, &args, env).expect(0).json();
        assert_eq!(
            (&json["first_run"], &json["copied"]),
            (&(index == 0).into(), &u8::from(index == 0).into()),
            "{args:?}"
        );
    }
    assert_eq!(states(&world).len(), 1);
    let listed = mill(
        &world,
        &["runs", "list", "--json", "--mirror", "src", "s3://one-pair"],
        &[("AWS_ENDPOINT_URL", endpoint)],
    );
    assert_eq!(listed.expect(0).out.lines().count(), 6);
    // Amazon's own is another pair.
    let ran = mill(&world, &["runs", "list", "--mirror", "src", "s3://one-pair"], &[]);
    assert!(ran.err.contains("there was no `mill mirror`"), "{}", ran.err);
    // As the source, it is the same owner of its copy, however it is spelled.
    for (flags, env) in ways {
        let flags: Vec<String> = flags.iter().map(|flag| flag.replace("destination", "source")).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        mill(&world, &[&["mirror", "s3://one-pair", "dst", "--json"], &flags[..]].concat(), env).expect(0);
    }
    assert_eq!(states(&world).len(), 2);
}

/// Until 2026-11-30 a pair's state stood where the address as it was typed said.
#[test]
fn a_mirror_goes_on_with_the_state_of_an_earlier_version() {
    let (world, endpoint) = (World::new(), ministack());
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='earlier')"));
    world.write("src/a", "a");
    let args = ["mirror", "src", "s3://earlier", "--destination-endpoint", endpoint, "--json"];
    mill(&world, &args, &[]).expect(0);
    let script = format!(
        "source = str(pathlib.Path('src').resolve()).encode()
print(hashlib.sha256(source + bytes(1) + b's3://earlier/ at {endpoint}').hexdigest()[:16])"
    );
    let before = boto(&world, &script).trim().to_owned();
    let all = world.path("state/mill/mirror");
    fs::rename(all.join(&states(&world)[0]), all.join(&before)).unwrap();
    let json = mill(&world, &args, &[]).expect(0).json();
    assert_eq!((&json["first_run"], states(&world)), (&false.into(), vec![before]));
}

#[test]
fn what_a_server_lacks_is_said_by_an_option_that_its_error_names() {
    let (world, endpoint) = (World::new(), ministack());
    boto(&world, &format!("client('s3', '{endpoint}').create_bucket(Bucket='lacking')"));
    world.write("src/large", vec![7; 9 << 20]);
    let args = ["mirror", "src", "s3://lacking", "--destination-endpoint", endpoint, "--json"];
    let ran = mill(&world, &[&args[..], &["--fail-fast"]].concat(), &[]).expect(50);
    let named = "`--destination-option wholeChecksums=false`";
    assert!(ran.json()["remarks"].to_string().contains(named), "{}", ran.out);
    let lacking = ["--destination-option", "wholeChecksums=false", "--destination-option", "pathStyle=true"];
    let json = mill(&world, &[&args[..], &lacking].concat(), &[]).expect(0).json();
    assert_eq!(json["copied"], 1, "{json}");
    // The other commands of two ends take them too.
    let verify = ["verify", "src/", "s3://lacking", "--destination-endpoint", endpoint];
    mill(&world, &[&verify[..], &lacking].concat(), &[]).expect(0);
    for (option, said) in [
        (["--destination-option", "wholechecksums=false"], "did you mean `wholeChecksums`?"),
        (["--source-option", "pathStyle=maybe"], "write `pathStyle=true` or `pathStyle=false`"),
        (["--source-option", "pathStyle=true"], "`src` is a folder"),
    ] {
        let ran = mill(&world, &[&args[..], &option].concat(), &[]).expect(200);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}
