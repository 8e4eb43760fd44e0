//! The README's quickstart on Kubernetes, as a reader would type it.

use crate::harness::{Ending, Scene};
use crate::scenarios::operator::PutBack;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::time::Duration;

/// The comment above the commands in README.md.
const MARK: &str = "<!-- the e2e test readme-quickstart runs these commands -->";
/// Time limit of one command: `make e2e` has built everything before, but a person who runs only this scenario may not
/// have.
const COMMAND_MAX: Duration = Duration::from_secs(300);

pub fn three_commands(scene: &Scene<'_>) -> Result<()> {
    let readme = fs::read_to_string(scene.site.repo().join("README.md"))?;
    let commands = commands(&readme).with_context(|| format!("README.md has no commands below '{MARK}'"))?;
    ensure!(commands.len() <= 3, "the quickstart has {} commands, and shall have three", commands.len());
    let _put_back = PutBack(scene);
    let users = scene.elsewhere("default");
    let _gone = Gone(&users);
    for command in &commands {
        scene.say(command);
        scene.site.shell(command, COMMAND_MAX)?.expect_success()?;
    }
    Ending::with(3).check_members(&users.cluster("demo"))
}

/// Deletes what the quickstart made when this is dropped.
struct Gone<'a>(&'a Scene<'a>);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        for args in [
            &["delete", "rkv", "demo", "--ignore-not-found"][..],
            &["delete", "pvc", "-l", "raftkv.dev/cluster=demo", "--wait=false"],
        ] {
            if let Err(error) = self.0.kubectl(args) {
                self.0.say(format!("{error:#}"));
            }
        }
    }
}

/// The commands in the fenced block below the mark; a line that ends with a backslash continues in the next, comments
/// are left out.
fn commands(readme: &str) -> Option<Vec<String>> {
    let (_, below) = readme.split_once(MARK)?;
    let (_, block) = below.split_once("```")?;
    let (block, _) = block.split_once("```")?;
    // The first line is the name of the language.
    let lines = block.split_once('\n')?.1.replace("\\\n", " ");
    Some(
        lines
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(String::from)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::{MARK, commands};

    #[test]
    fn commands_are_read_from_the_block_below_the_mark() {
        let text = format!("```sh\nno\n```\n{MARK}\n```sh\n# first\nhelm install \\\n  x\n\nkubectl get rkv\n```\n");
        assert_eq!(commands(&text).unwrap(), ["helm install    x", "kubectl get rkv"]);
        assert_eq!(commands("```sh\nno\n```\n"), None);
    }
}
