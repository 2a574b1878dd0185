//! Getting one package of a newer Debian without adding that Debian to the machine: a sources list of its own,
//! made from the mirror, key and options that the machine is already configured with, in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::Tool;

/// The suite that carries newer Rust releases.
const SUITE: &str = "trixie-backports";
const SOURCES_LIST: &str = "/etc/apt/sources.list";
const SOURCES_FOLDER: &str = "/etc/apt/sources.list.d";

/// Downloads `package` in the Debian build of exactly `version` and answers the folder that it is unpacked in.
pub(super) fn unpack(package: &str, version: &str, temporary: &Path) -> Result<PathBuf> {
    let release =
        host_release(&fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?)?;
    let source = configured()?
        .iter()
        .find_map(|file| file.for_suite(&release))
        .with_context(|| format!("apt is not configured for the main part of Debian {release}"))?;
    let configuration = temporary.join(source.file_name);
    fs::write(&configuration, source.text).context("cannot write the sources list")?;
    for folder in ["lists/partial", "cache/archives/partial", "parts", "unpacked"] {
        fs::create_dir_all(temporary.join(folder)).context("cannot make a folder")?;
    }
    let apt = |program: &str| {
        let option = |name: &str, path: PathBuf| ["-o".to_owned(), format!("{name}={}", path.display())];
        Tool::new(program)
            .args(["-q", "-o", "APT::Sandbox::User=root"])
            .args(option("Dir::Etc::sourcelist", configuration.clone()))
            .args(option("Dir::Etc::sourceparts", temporary.join("parts")))
            .args(option("Dir::State::lists", temporary.join("lists")))
            .args(option("Dir::Cache", temporary.join("cache")))
            .dir(temporary)
    };
    // By itself, apt calls it a success when a mirror cannot be reached.
    apt("apt-get").args(["update", "-o", "APT::Update::Error-Mode=any"]).output()?;
    let table = apt("apt-cache").args(["madison", package]).stdout()?;
    let build = newest_build(&String::from_utf8_lossy(&table), version)
        .with_context(|| format!("Debian's {SUITE} has no {package} {version}"))?;
    apt("apt-get").args(["download", &format!("{package}={build}")]).output()?;

    let archive = fs::read_dir(temporary)
        .context("cannot read the temporary folder")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let unpacked = temporary.join("unpacked");
    Tool::new("dpkg-deb").args(["--extract"]).args([&archive, &unpacked]).output()?;
    Ok(unpacked)
}

/// One file of apt's configuration.
struct Configured {
    is_deb822: bool,
    text: String,
}

/// What to write, and under which name: apt tells the format by it.
struct Source {
    file_name: &'static str,
    text: String,
}

impl Configured {
    /// The first entry for the main part of `release`, turned into one for the newer suite.
    fn for_suite(&self, release: &str) -> Option<Source> {
        if self.is_deb822 {
            let stanza = self.text.split("\n\n").find_map(|stanza| deb822(stanza, release))?;
            Some(Source { file_name: "newer.sources", text: stanza })
        } else {
            let line = self.text.lines().find_map(|line| one_line(line, release))?;
            Some(Source { file_name: "newer.list", text: line })
        }
    }
}

fn configured() -> Result<Vec<Configured>> {
    let mut paths = vec![PathBuf::from(SOURCES_LIST)];
    if let Ok(entries) = fs::read_dir(SOURCES_FOLDER) {
        let mut more: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        more.sort();
        paths.extend(more);
    }
    let mut files = Vec::new();
    for path in paths {
        let is_deb822 = path.extension().is_some_and(|extension| extension == "sources");
        let is_list = path.extension().is_some_and(|extension| extension == "list");
        if (is_deb822 || is_list) && path.is_file() {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            files.push(Configured { is_deb822, text });
        }
    }
    Ok(files)
}

fn host_release(os_release: &str) -> Result<String> {
    let value = |key: &str| {
        let found = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_default().trim_matches('"').to_owned()
    };
    if value("ID") != "debian" {
        bail!("this is not Debian but {}", value("ID"));
    }
    Ok(value("VERSION_CODENAME"))
}

/// A stanza of fields, some of which go on over indented lines (a key may stand there in full).
fn deb822(stanza: &str, release: &str) -> Option<String> {
    let field = |wanted: &str| {
        let lines = stanza.lines().filter(|line| !line.starts_with('#'));
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let has =
        |name: &str, word: &str| field(name).is_some_and(|value| value.split_whitespace().any(|w| w == word));
    let is_off = field("Enabled").is_some_and(|value| value.trim().eq_ignore_ascii_case("no"));
    if is_off || !has("Types", "deb") || !has("Suites", release) || !has("Components", "main") {
        return None;
    }
    let mut text = String::new();
    for line in stanza.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split_once(':').map(|(name, _)| name.to_ascii_lowercase());
        match name.as_deref() {
            Some("types") => text.push_str("Types: deb"),
            Some("suites") => text.push_str(&format!("Suites: {SUITE}")),
            Some("components") => text.push_str("Components: main"),
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    Some(text)
}

/// `deb [options] uri suite component…`
fn one_line(line: &str, release: &str) -> Option<String> {
    let rest = line.trim().strip_prefix("deb")?;
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => {
            let (options, rest) = rest.split_once(']')?;
            (format!("[{options}] "), rest)
        }
        None if rest.starts_with(char::is_whitespace) => (String::new(), rest),
        None => return None,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if suite != release || !words.any(|component| component == "main") {
        return None;
    }
    Some(format!("deb {options}{uri} {SUITE} main\n"))
}

/// From lines `package | version | origin`, the newest first. Debian's builds of a release are named
/// `1.95.0+dfsg1-2~bpo13+1` and the like.
fn newest_build(table: &str, release: &str) -> Option<String> {
    let versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    let is_of_release =
        |version: &&str| version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']));
    versions.into_iter().find(is_of_release).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_its_mirror_and_key() {
        let stanza = "# a comment\nTypes: deb deb-src\nURIs: http://mirror.example/debian\n\
            Suites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /keys/debian.gpg\n";
        let expected = "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie-backports\n\
            Components: main\nSigned-By: /keys/debian.gpg\n";
        assert_eq!(deb822(stanza, "bookworm").as_deref(), Some(expected));
        assert_eq!(deb822(stanza, "trixie"), None);
        assert_eq!(deb822(&format!("{stanza}Enabled: no\n"), "bookworm"), None);
    }

    #[test]
    fn a_line_keeps_its_mirror_and_options() {
        let line = "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian bookworm main";
        let expected =
            "deb [signed-by=/k.gpg arch=amd64] http://mirror.example/debian trixie-backports main\n";
        assert_eq!(one_line(line, "bookworm").as_deref(), Some(expected));
        let plain = one_line("deb http://mirror.example/debian bookworm contrib main", "bookworm");
        assert_eq!(plain.as_deref(), Some("deb http://mirror.example/debian trixie-backports main\n"));
        assert_eq!(one_line("deb-src http://mirror.example/debian bookworm main", "bookworm"), None);
        assert_eq!(one_line("# deb http://mirror.example/debian bookworm main", "bookworm"), None);
        assert_eq!(one_line("deb http://mirror.example/debian bookworm-updates main", "bookworm"), None);
    }

    #[test]
    fn only_builds_of_the_release() {
        let table =
            " rust-src | 1.95.01-1 | x\n rust-src | 1.95.0+dfsg1-2~bpo13+1 | x\n rust-src | 1.94.0-1 | x\n";
        assert_eq!(newest_build(table, "1.95.0").as_deref(), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(newest_build(table, "1.96.0"), None);
    }
}
