//! Debian's package index as test data, or data of the same shape where there is none.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::process::Command;

/// Fewer stanzas than this are no index.
const STANZAS_MIN: usize = 10_000;
/// Stanzas that are made when there is no index.
const STANZAS_MADE: usize = 60_000;
/// Sizes of the stanzas of bookworm's index, one from the middle of each twentieth; the last stands for a long tail.
const SIZES: [usize; 20] =
    [547, 579, 599, 616, 631, 645, 659, 672, 687, 702, 718, 736, 756, 780, 807, 843, 891, 962, 1074, 2000];

/// Stanzas by package name; each ends with the newline of its last line.
#[derive(Debug)]
pub struct Index {
    /// Where they are from.
    pub source: String,
    /// By package name.
    pub stanzas: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Index {
    /// What `apt-cache dumpavail` prints; made up, and said so in `source`, where that is too little.
    pub fn read() -> Result<Index> {
        let printed = Command::new("apt-cache").arg("dumpavail").output().map(|output| output.stdout);
        let stanzas = printed.map_or_else(|_| Ok(BTreeMap::new()), |text| parse(&text))?;
        if stanzas.len() < STANZAS_MIN {
            let source = format!("made up, since apt-cache dumpavail has {} stanzas", stanzas.len());
            return Ok(Index { source, stanzas: made_up() });
        }
        Ok(Index { source: "apt-cache dumpavail".into(), stanzas })
    }

    /// The index as a file: in the order of the names, a blank line after each stanza.
    pub fn text(&self) -> Vec<u8> {
        self.stanzas.values().flat_map(|stanza| stanza.iter().chain(b"\n")).copied().collect()
    }
}

fn parse(text: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut stanzas = BTreeMap::new();
    let mut stanza = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n').chain([&b"\n"[..]]) {
        if line != b"\n" {
            stanza.extend_from_slice(line);
        } else if !stanza.is_empty() {
            let first = stanza.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"Package: "));
            let name = first.context("a stanza without a Package field")?.to_vec();
            let again = stanzas.insert(name.clone(), std::mem::take(&mut stanza));
            ensure!(again.is_none(), "package {} occurs twice", name.escape_ascii());
        }
    }
    Ok(stanzas)
}

fn made_up() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let stanza = |nth: usize| {
        let name = format!("package-{nth:05}");
        let head = format!("Package: {name}\nVersion: 1.{nth}\nDescription: ");
        let size = SIZES[nth * 7 % SIZES.len()];
        let words = "made of words that differ by stanza ";
        let tail: String = words.chars().cycle().skip(nth % words.len()).take(size - head.len() - 1).collect();
        (name.into_bytes(), format!("{head}{tail}\n").into_bytes())
    };
    (0..STANZAS_MADE).map(stanza).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_stanzas_are_each_other_s_reverse() {
        let text = b"Package: a\nX: 1\n\nPackage: b\n more\n\n";
        let index = Index { source: String::new(), stanzas: parse(text).unwrap() };
        assert_eq!(index.stanzas[&b"b"[..]], b"Package: b\n more\n");
        assert_eq!(index.text(), text);
        assert!(parse(b"Package: a\n\nPackage: a\n").is_err());
        assert!(parse(b"Version: 1\n").is_err());
    }

    #[test]
    fn made_up_stanzas_are_as_many_and_as_large_as_real_ones() {
        let made = made_up();
        assert_eq!(made.len(), STANZAS_MADE);
        let bytes: usize = made.values().map(Vec::len).sum();
        assert!((700..900).contains(&(bytes / made.len())), "{}", bytes / made.len());
        assert_eq!(parse(&Index { source: String::new(), stanzas: made.clone() }.text()).unwrap(), made);
    }
}
