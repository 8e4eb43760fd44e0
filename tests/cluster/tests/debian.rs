//! Debian's package index is imported by `raftkvctl import` while the leader is killed three times; every node gives it
//! back.

use anyhow::{Context, Result, anyhow, ensure};
use raftkv_cluster_tests::debian::Index;
use raftkv_cluster_tests::wait::{eventually_within, holds};
use raftkv_cluster_tests::{Cluster, Export, binaries};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time for the import of some 60 000 keys, on a slow machine, with three elections during it.
const IMPORT_MAX: Duration = Duration::from_secs(600);

#[test]
fn the_package_index_survives_three_killed_leaders_byte_for_byte() -> Result<()> {
    let index = Index::read()?;
    let count = index.stanzas.len();
    println!("{count} stanzas: {}", index.source);
    let mut cluster = Cluster::start(3)?;
    let input = cluster.dir().join("packages");
    fs::write(&input, index.text())?;

    let begun = Instant::now();
    let mut import = Import::start(&cluster, &input)?;
    for kill in 1..=3 {
        // A quarter of the keys go in before each kill, so that each kill meets an import under way.
        import.wait_for_keys(&cluster, (count * kill / 4) as u64)?;
        let leader = cluster.leader()?;
        cluster.nodes[leader].kill()?;
        cluster.nodes[leader].start()?;
        println!("killed {} with {} % in", cluster.nodes[leader].name, 25 * kill);
    }
    import.wait_for_end()?;
    println!("imported in {:?}", begun.elapsed());

    for node in &cluster.nodes {
        node.wait_serving()?;
    }
    let agreed = cluster.agree()?;
    println!("the state hashes agree: {:?}", agreed.state_hash);
    for node in &cluster.nodes {
        let output = cluster.dir().join(format!("{}.export", node.name));
        let exported = Command::new(binaries::raftkvctl())
            .args(["export", "--format", "deb822", "--endpoints", &node.client_url(), "--node", &node.client_url()])
            .arg(&output)
            .output()?;
        ensure!(exported.status.success(), "export: {}", String::from_utf8_lossy(&exported.stderr));
        ensure!(fs::read(&output)? == fs::read(&input)?, "the export of {} is not the input", node.name);

        // Also read without raftkvctl, which could make the same mistake in both directions.
        let export = Export::read(node, "")?;
        ensure!(export.entries.len() == count, "{} has {} keys", node.name, export.entries.len());
        for (name, stanza) in &index.stanzas {
            let entry = export.entries.get(name).with_context(|| format!("{} is lost", name.escape_ascii()))?;
            ensure!(entry.value == *stanza, "{} differs on {}", name.escape_ascii(), node.name);
        }
    }
    cluster.finish()
}

/// A running `raftkvctl import`.
struct Import {
    child: Child,
    said: std::path::PathBuf,
}

impl Import {
    fn start(cluster: &Cluster, input: &Path) -> Result<Import> {
        let said = cluster.dir().join("import.log");
        let child = Command::new(binaries::raftkvctl())
            .args(["import", "--format", "deb822", "--endpoints", &cluster.client_urls().join(",")])
            .arg(input)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()?;
        Ok(Import { child, said })
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap_or_default()
    }

    /// Waits until some node shows this many keys. An import that has ended before was too fast to be disturbed.
    fn wait_for_keys(&mut self, cluster: &Cluster, keys: u64) -> Result<()> {
        eventually_within(IMPORT_MAX, &format!("{keys} keys are in"), || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Err(anyhow!("the import has ended ({status}) too early: {}", self.said())));
            }
            let answers = cluster.nodes.iter().map(|node| node.status().map(|status| status.revision));
            let revision = answers.flatten().max().context("no node answers")?;
            // The store begins at revision 1, and each key is written once.
            holds(revision > keys, || format!("revision {revision}")).map(Ok)
        })?
    }

    fn wait_for_end(&mut self) -> Result<()> {
        let status =
            eventually_within(IMPORT_MAX, "the import ends", || self.child.try_wait()?.context("it is running"))?;
        ensure!(status.success(), "the import ended with {status}: {}", self.said());
        println!("{}", self.said().lines().last().unwrap_or_default());
        Ok(())
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
