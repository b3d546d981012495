//! What a checkpoint consists of, said by the file that is written last.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use terrace_base::{Fingerprint, FingerprintHasher, Tokens};

use crate::Damage;
use crate::layout::{LOGS, STATE, is_segment_name, segment_name};

pub(crate) const FORMAT: &str = "terrace-checkpoint/1";

/// What one needs to know of a checkpoint to list it and to decide whether to keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The tokens that the run had seen.
    pub tokens_seen: Tokens,
    /// The optimizer updates applied.
    pub step: u64,
    /// The name of the stage it was saved in.
    pub stage: String,
    /// The loss on held-out text in nats per token, where it was measured.
    pub held_out_loss: Option<f64>,
    /// Whether it was saved only because an evaluation began there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub for_evaluation: bool,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRecord {
    /// The name in the checkpoint's folder.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The hash of the content.
    pub blake3: Fingerprint,
}

/// The content of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: String,
    pub(crate) facts: Facts,
    pub(crate) state_digest: Fingerprint,
    pub(crate) files: Vec<FileRecord>,
    /// The hash of this manifest when written with `null` here.
    manifest_digest: Option<Fingerprint>,
}

impl Manifest {
    /// Describes the files of a checkpoint; their order does not matter.
    pub(crate) fn new(mut facts: Facts, mut files: Vec<FileRecord>) -> Self {
        files.sort_by(|a, b| a.name.cmp(&b.name));
        // JSON has no word for these; a loss that is not a number is no loss to keep by.
        facts.held_out_loss = facts.held_out_loss.filter(|loss| loss.is_finite());
        let mut manifest = Self {
            format: FORMAT.to_owned(),
            facts,
            state_digest: state_digest(&files),
            files,
            manifest_digest: None,
        };
        manifest.manifest_digest = Some(manifest.digest());
        manifest
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest always serialises");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a manifest and accepts it only if it is byte for byte as it was written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Damage> {
        let malformed = |error: serde_json::Error| Damage::Malformed(error.to_string());
        let value: Value = serde_json::from_slice(bytes).map_err(malformed)?;
        // Asked first, because nothing else is known of the manifests of other versions.
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            found => {
                return Err(Damage::Format {
                    found: found.unwrap_or("none").to_owned(),
                    expected: FORMAT,
                });
            }
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        let (found, expected) = (manifest.digest(), manifest.manifest_digest);
        match expected {
            Some(expected) if expected != found => return Err(Damage::Hash { found, expected }),
            Some(_) if manifest.to_bytes() == bytes => {}
            _ => {
                let reason = "it was edited after it was written";
                return Err(Damage::Malformed(reason.to_owned()));
            }
        }
        manifest.check_files().map_err(Damage::Malformed)?;
        Ok(manifest)
    }

    pub(crate) fn file(&self, name: &str) -> Option<&FileRecord> {
        let place = self.files.binary_search_by(|file| file.name.as_str().cmp(name));
        place.ok().map(|place| &self.files[place])
    }

    pub(crate) fn segments(&self) -> usize {
        self.files.iter().filter(|file| is_segment_name(&file.name)).count()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether exactly the files of a whole checkpoint are named: state, logs, segments 0..n.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        let mut expected: BTreeSet<String> = (0..self.segments()).map(segment_name).collect();
        expected.extend([STATE.to_owned(), LOGS.to_owned()]);
        for file in &self.files {
            if !expected.remove(&file.name) {
                return Err(format!("it names {} out of place", file.name));
            }
        }
        match expected.first() {
            Some(missing) => Err(format!("it does not name {missing}")),
            None => Ok(()),
        }
    }

    fn digest(&self) -> Fingerprint {
        let bare = Self { manifest_digest: None, ..self.clone() };
        Fingerprint::of_bytes(&bare.to_bytes())
    }
}

/// The hash of all that decides how the run goes on: the same wherever and whenever it is saved.
fn state_digest(files: &[FileRecord]) -> Fingerprint {
    let mut hasher = FingerprintHasher::new();
    hasher.update(FORMAT.as_bytes());
    // Logs hold timings, which differ between two runs that are otherwise the same.
    for file in files.iter().filter(|file| file.name != LOGS) {
        hasher.update(file.name.as_bytes());
        hasher.update(&file.blake3.0);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, content: &[u8]) -> FileRecord {
        FileRecord {
            name: name.to_owned(),
            bytes: content.len() as u64,
            blake3: Fingerprint::of_bytes(content),
        }
    }

    fn facts(held_out_loss: Option<f64>) -> Facts {
        Facts {
            tokens_seen: Tokens(4096),
            step: 7,
            stage: "stage-1".to_owned(),
            held_out_loss,
            for_evaluation: false,
        }
    }

    fn manifest(state: &[u8], logs: &[u8], weights: &[u8]) -> Manifest {
        let files = vec![file(STATE, state), file(&segment_name(0), weights), file(LOGS, logs)];
        Manifest::new(facts(Some(3.25)), files)
    }

    #[test]
    fn the_digest_covers_the_state_and_not_the_logs() {
        let digest = manifest(b"s", b"l", b"w").state_digest;
        assert_eq!(manifest(b"s", b"L", b"w").state_digest, digest);
        assert_ne!(manifest(b"S", b"l", b"w").state_digest, digest);
        assert_ne!(manifest(b"s", b"l", b"W").state_digest, digest);
        assert_ne!(manifest(b"w", b"l", b"s").state_digest, digest);
    }

    #[test]
    fn other_formats_are_told_apart_from_damage() {
        for (text, found) in [
            (r#"{"format": "terrace-checkpoint/2", "shards": []}"#, "terrace-checkpoint/2"),
            (r#"{"files": []}"#, "none"),
        ] {
            let error = Manifest::from_bytes(text.as_bytes()).unwrap_err();
            assert!(matches!(&error, Damage::Format { found: f, .. } if f == found), "{error}");
        }
        assert!(matches!(Manifest::from_bytes(b"{\"for"), Err(Damage::Malformed(_))));
    }

    #[test]
    fn a_list_with_a_gap_is_refused() {
        for names in [&[STATE][..], &[STATE, LOGS, "segment-0001.safetensors"], &[STATE, LOGS, "x"]]
        {
            let files = names.iter().map(|name| file(name, b"")).collect();
            let bytes = Manifest::new(facts(None), files).to_bytes();
            let error = Manifest::from_bytes(&bytes).unwrap_err();
            assert!(matches!(error, Damage::Malformed(_)), "{names:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn manifests_round_trip(loss: Option<f64>, tokens_seen: u64, stage: String, for_evaluation: bool) {
            let facts =
                Facts { tokens_seen: Tokens(tokens_seen), stage, for_evaluation, ..facts(loss) };
            let manifest = Manifest::new(facts, manifest(b"s", b"l", b"w").files);
            prop_assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        }

        #[test]
        fn no_byte_can_change(place: prop::sample::Index, flip in 1u8..) {
            let mut bytes = manifest(b"s", b"l", b"w").to_bytes();
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            prop_assert!(Manifest::from_bytes(&bytes).is_err());
        }
    }
}
