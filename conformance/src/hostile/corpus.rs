//! Five hundred names, each of which has done harm somewhere: to a file system, a shell, a protocol, a parser or an eye.

use std::collections::BTreeSet;

use mill_model::ContentId;

/// The names, each once; all of them are ids.
pub fn corpus() -> Vec<ContentId> {
    let mut seen = BTreeSet::new();
    let families = [
        paths(),
        devices(),
        controls(),
        lengths(),
        encoded(),
        letters(),
        alike(),
        nested(),
        injections(),
        edges(),
        mills_own(),
        confusing_order(),
    ];
    let names = families.into_iter().flatten().filter(|name| seen.insert(name.clone()));
    names.filter_map(|name| ContentId::new(name).ok()).collect()
}

fn of(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Each part in all positions.
fn everywhere(parts: &[&str]) -> Vec<String> {
    let places = |part: &&str| {
        [(*part).to_owned(), format!("p/{part}"), format!("{part}/s"), format!("p/{part}/s"), format!("p{part}s")]
    };
    parts.iter().flat_map(places).collect()
}

/// Paths out of a folder, and names that are none.
fn paths() -> Vec<String> {
    let parts = [
        ".",
        "..",
        "...",
        "../x",
        "../../../../tmp/x",
        "/",
        "//",
        "/x",
        "x/",
        "x//y",
        "./x",
        "x/.",
        "x/..",
        "x/../y",
        "x/../../y",
        "/etc/passwd",
        "/dev/null",
        "/proc/self/mem",
        "~",
        "~root",
    ];
    let windows =
        of(&["..\\x", "\\", "C:", "C:\\x", "\\\\host\\share", "\\\\?\\C:\\x", "x\\..\\y", "file:///etc/passwd"]);
    [everywhere(&parts), windows].concat()
}

/// Names that another system treats as devices, and characters that it strips.
fn devices() -> Vec<String> {
    let devices = ["CON", "prn", "AUX", "nul", "COM1", "COM9", "LPT1", "CONIN$", "CLOCK$"];
    let forms = |name: &&str| [(*name).to_owned(), format!("{name}.txt"), format!("d/{name}"), format!("{name} ")];
    let stripped =
        of(&["x.", "x..", "x ", " x", "x. ", "x/ y", "x /y", "x:stream", "x::$DATA", "desktop.ini", "Thumbs.db"]);
    [devices.iter().flat_map(forms).collect(), stripped].concat()
}

/// Each control character, alone and within a name.
fn controls() -> Vec<String> {
    let all = (0..0x20_u8).chain([0x7F]).map(char::from).chain(['\u{80}', '\u{85}', '\u{9b}']);
    all.flat_map(|control| [control.to_string(), format!("a{control}b")]).collect()
}

/// Lengths at limits.
fn lengths() -> Vec<String> {
    let parts = |length: usize| "x".repeat(length);
    let mut names: Vec<String> = [1, 127, 128, 254, 255, 256, 1_023, 1_024].into_iter().map(parts).collect();
    names.extend([254, 255, 256].map(|length| format!("d/{}", parts(length))));
    names.extend([254, 255, 256].map(|length| format!("{}/f", parts(length))));
    // A character of several bytes across the limit of a name.
    names.extend([127, 128].map(|count| "é".repeat(count)));
    names.extend([85, 86].map(|count| "日".repeat(count)));
    names.extend([63, 64].map(|count| "\u{1F600}".repeat(count)));
    names.extend(["é".repeat(512), format!("{}ab", "a/".repeat(511)), "a/".repeat(512), "/".repeat(1_024)]);
    names.push(format!("{}{}", "0123456789abcde/".repeat(63), "0123456789abcdef"));
    names
}

/// What somebody may decode once too often.
fn encoded() -> Vec<String> {
    let names = [
        "%",
        "%%",
        "%2",
        "%zz",
        "%00",
        "%2F",
        "%2f",
        "a%2Fb",
        "%2e%2e%2f",
        "%2e%2e/x",
        "..%2fx",
        "%252e%252e%252f",
        "%c0%ae%c0%ae/x",
        "%u002e",
        "%0a",
        "%0d%0a",
        "a+b",
        "a%20b",
        "a b",
        "&#46;&#46;&#47;",
        "&amp;",
        "&lt;x&gt;",
        "\\u002e\\u002e",
        "\\x2e",
        "\\0",
        "=2E=2E",
        "=?utf-8?q?x?=",
        "xn--bcher-kva",
        "+AC8-",
        "YS9i",
    ];
    of(&names)
}

/// Letters that look, sort, fold or flow in ways of their own.
fn letters() -> Vec<String> {
    let marks = [
        '\u{200B}',
        '\u{200C}',
        '\u{200D}',
        '\u{200E}',
        '\u{200F}',
        '\u{202A}',
        '\u{202B}',
        '\u{202D}',
        '\u{202E}',
        '\u{2028}',
        '\u{2029}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{FEFF}',
        '\u{FFFD}',
        '\u{FFFE}',
        '\u{FFFF}',
        '\u{1FFFE}',
        '\u{10FFFF}',
        '\u{E000}',
        '\u{F8FF}',
        '\u{E0001}',
        '\u{E0041}',
        '\u{00AD}',
        '\u{00A0}',
        '\u{3000}',
        '\u{1680}',
        '\u{180E}',
        '\u{061C}',
        '\u{D7FF}',
        '\u{FDD0}',
    ];
    let names = [
        "日本語",
        "עברית",
        "العربية/x",
        "ไทย",
        "Ελληνικά",
        "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}",
        "\u{1F1E9}\u{1F1EA}",
        "Z\u{0351}\u{036B}\u{0343}algo",
        "\u{2024}\u{2024}/x",
        "a\u{2215}b",
        "a\u{FF0F}b",
        "\u{FF0E}\u{FF0E}/x",
    ];
    let marked = marks.iter().flat_map(|mark| [mark.to_string(), format!("a{mark}b")]);
    marked.chain(of(&names)).collect()
}

/// Pairs that some system treats as one.
fn alike() -> Vec<String> {
    let names = [
        "caf\u{e9}",
        "cafe\u{301}",
        "\u{c5}",
        "A\u{30a}",
        "\u{212b}",
        "\u{fb01}le",
        "file",
        "File",
        "FILE",
        "\u{1E9E}",
        "\u{df}",
        "ss",
        "SS",
        "\u{130}",
        "i\u{307}",
        "I",
        "\u{131}",
        "i",
        "\u{212a}",
        "K",
        "k",
        "\u{17f}",
        "s",
        "\u{ac00}",
        "\u{1100}\u{1161}",
        "\u{3c2}",
        "\u{3c3}",
        "\u{3a3}",
        "\u{2126}",
        "\u{3a9}",
        "\u{430}",
        "a",
        "\u{1e9b}\u{323}",
        "\u{1e69}",
        "s\u{323}\u{307}",
        "s\u{307}\u{323}",
    ];
    names.iter().flat_map(|name| [(*name).to_owned(), format!("alike/{name}.jpg")]).collect()
}

/// A name and names beneath it.
fn nested() -> Vec<String> {
    of(&[
        "n", "n/", "n/a", "n/a/", "n/a/b", "n/a/b/", "n-", "n.", "n0", "n/a-b", "m/a/b", "m/a", "m", "o/", "o/x",
        "q//", "q/",
    ])
}

/// Characters with a meaning in a shell, a query, a page or a table.
fn injections() -> Vec<String> {
    let names = [
        "-rf",
        "--",
        "--delete",
        "-",
        "*",
        "?",
        "[x]",
        "{a,b}",
        "$HOME",
        "${IFS}",
        "$(x)",
        "`x`",
        "'x'",
        "\"x\"",
        "'; DROP TABLE entry; --",
        "x' OR '1'='1",
        "x;y",
        "x|y",
        "x&y",
        "x && y",
        "<x>",
        "x>y",
        "<script>alert(1)</script>",
        "<!--",
        "]]>",
        "<?xml version='1.0'?>",
        "&x;",
        "{{x}}",
        "{% x %}",
        "#x",
        "!x",
        "^x",
        "a,b",
        "a\tb",
        "=1+1",
        "@SUM(1)",
        "+1",
        "a:b",
        "a=b",
        "{}",
        "[]",
        "null",
        "true",
        "{\"item\":\"x\"}",
        "\\",
        "\\\\",
        "\\n",
        "\"",
        "'",
        "%s%s%s%n",
        "%d",
        "\u{1b}[2J",
        "\u{1b}]0;x\u{7}",
        "\r\n",
        "a\r\nX: y",
        "?x=y",
        "#",
        "http://host/x",
        "s3://b/k",
    ];
    of(&names)
}

/// Blanks, dots and numbers.
fn edges() -> Vec<String> {
    let names = [
        " ",
        "  ",
        "   x",
        "x   ",
        " /x",
        "x/ ",
        "\t",
        "\u{b}",
        ".x",
        "x/.y",
        ".x/y",
        "..x",
        "x..",
        "x../y",
        "0",
        "00",
        "-1",
        "NaN",
        "1e9",
        "0x10",
        "18446744073709551616",
        "a//",
        "_",
        "__proto__",
        "constructor",
        "lost+found",
    ];
    of(&names)
}

/// Names that Mill itself or another tool uses for its own files.
fn mills_own() -> Vec<String> {
    let names = [
        ".mill-in-progress",
        ".mill-in-progress/x",
        ".mill-in-progress/",
        ".mill-in-progress/00000000000000aa/0",
        "p/.mill-in-progress",
        ".MILL-IN-PROGRESS",
        "mill.db",
        "mill.db-wal",
        "user.mill.properties",
        "sidecar",
        ".rclone",
        ".git/config",
        ".nfs0000000000000001",
        ".fuse_hidden1",
        ".~tmp~",
        "x~",
        "#x#",
        ".DS_Store",
        "._x",
    ];
    of(&names)
}

/// Names around the slash in the order of bytes, where listings go wrong.
fn confusing_order() -> Vec<String> {
    of(&[
        "z",
        "z!",
        "z-",
        "z-/a",
        "z.",
        "z./a",
        "z/a",
        "z/a/a",
        "z0",
        "z0/a",
        "z/!",
        "z/\u{10FFFF}",
        "z\u{10FFFF}",
        "zz",
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_500_names_each_once() {
        let corpus = corpus();
        assert!(corpus.len() >= 500, "{}", corpus.len());
        assert_eq!(corpus.iter().collect::<BTreeSet<_>>().len(), corpus.len());
        assert!(corpus.iter().any(|id| id.as_str().len() == ContentId::BYTES_MAX));
    }
}
