//! Kubernetes, CoreDNS and the tools, built from their Go modules once and kept.

use std::{fs, path::Path, process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use ring::digest::{Context as Hash, SHA256};

use crate::layout::Layout;

/// Something to build.
#[derive(Clone, Copy)]
pub(crate) struct Component {
    /// The binary's name.
    name: &'static str,
    source: Source,
    /// How long it takes on two cores, for whoever waits.
    minutes: f32,
}

#[derive(Clone, Copy)]
enum Source {
    /// A package within `components/`.
    Ours(&'static str),
    /// `package@version`, and linker flags.
    Module(&'static str, &'static str),
}

const KUBE: Component = Component { name: "kube", source: Source::Ours("."), minutes: 8.0 };
const PAUSE: Component = Component { name: "pause", source: Source::Ours("./pause"), minutes: 0.1 };
const COREDNS: Component =
    Component { name: "coredns", source: Source::Module("github.com/coredns/coredns@v1.15.0", ""), minutes: 2.5 };
const HELM: Component = Component {
    name: "helm",
    source: Source::Module("helm.sh/helm/v3/cmd/helm@v3.22.0", "-X helm.sh/helm/v3/internal/version.version=v3.22.0"),
    minutes: 2.5,
};
const ACTIONLINT: Component = Component {
    name: "actionlint",
    source: Source::Module("github.com/rhysd/actionlint/cmd/actionlint@v1.7.12", ""),
    minutes: 0.5,
};

/// What a cluster is made of.
pub(crate) const CLUSTER: [Component; 3] = [KUBE, PAUSE, COREDNS];

/// What is used with it.
pub(crate) const TOOLS: [Component; 3] = [KUBE, HELM, ACTIONLINT];

/// The parts of Kubernetes that the one binary is, by the name that it is started under.
const PARTS: [&str; 7] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"];

/// The version that the binaries tell; go.mod has the same.
const KUBERNETES: &str = "v1.36.3";

/// Our Go module. It is part of the binary, so that localkube works from anywhere.
const FILES: [(&str, &str); 4] = [
    ("go.mod", include_str!("../components/go.mod")),
    ("go.sum", include_str!("../components/go.sum")),
    ("main.go", include_str!("../components/main.go")),
    ("pause/main.go", include_str!("../components/pause/main.go")),
];

/// Builds those that are missing or of another version.
pub(crate) fn build(layout: &Layout, components: &[Component]) -> Result<()> {
    let bin = layout.bin();
    fs::create_dir_all(&bin)?;
    for component in components {
        let key = component.key();
        let stamp = bin.join(format!("{}.key", component.name));
        let built = bin.join(component.name).exists();
        if built && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == key) {
            continue;
        }
        println!(
            "localkube: building {} from source, about {} minutes on two cores",
            component.name, component.minutes
        );
        let began = Instant::now();
        component.build(&bin).with_context(|| format!("cannot build {}", component.name))?;
        fs::write(&stamp, key)?;
        println!("localkube: built {} in {:.0} s", component.name, began.elapsed().as_secs_f64());
    }
    for part in PARTS {
        let link = bin.join(part);
        if !link.exists() {
            std::os::unix::fs::symlink("kube", &link)?;
        }
    }
    Ok(())
}

impl Component {
    fn flags(&self) -> String {
        match self.source {
            Source::Ours(_) => {
                let version = "k8s.io/component-base/version";
                format!("-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36")
            }
            Source::Module(_, flags) => format!("-s -w {flags}"),
        }
    }

    /// Changes whenever the binary would.
    fn key(&self) -> String {
        let mut hash = Hash::new(&SHA256);
        hash.update(self.flags().as_bytes());
        match self.source {
            Source::Ours(package) => {
                hash.update(package.as_bytes());
                FILES.iter().for_each(|(name, text)| {
                    hash.update(name.as_bytes());
                    hash.update(text.as_bytes());
                });
            }
            Source::Module(module, _) => hash.update(module.as_bytes()),
        }
        hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn build(&self, bin: &Path) -> Result<()> {
        let mut go = Command::new("go");
        go.env("CGO_ENABLED", "0").env("GOFLAGS", "-trimpath").env("GOTOOLCHAIN", "local");
        match self.source {
            Source::Ours(package) => {
                let folder = bin.join("components");
                for (name, text) in FILES {
                    let file = folder.join(name);
                    fs::create_dir_all(file.parent().unwrap_or(&folder))?;
                    fs::write(file, text)?;
                }
                go.current_dir(&folder)
                    .args(["build", "-ldflags", &self.flags(), "-o"])
                    .arg(bin.join(self.name))
                    .arg(package);
            }
            Source::Module(module, _) => {
                go.env("GOBIN", bin).args(["install", "-ldflags", &self.flags(), module]);
            }
        }
        let status = go.status().context("go is missing: install Go 1.26 (https://go.dev/dl)")?;
        if !status.success() {
            bail!("go ended with {status}");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_component_has_a_key_of_its_own() {
        let keys: std::collections::HashSet<_> = CLUSTER.iter().chain(&TOOLS).map(Component::key).collect();
        assert_eq!(keys.len(), 5, "kube is in both");
    }

    #[test]
    fn the_version_told_is_the_one_built() {
        assert!(FILES[0].1.contains(&format!("k8s.io/kubernetes {KUBERNETES}")));
    }
}
