//! Rewrites `ipc/vectors/`, the frames that every SDK is tested with.

#[path = "../tests/golden/mod.rs"]
mod golden;

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"));
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "bin") {
            std::fs::remove_file(path)?;
        }
    }
    for vector in golden::all() {
        std::fs::write(directory.join(vector.name).with_extension("bin"), &vector.bytes)?;
    }
    std::fs::write(directory.join("vectors.json"), golden::index())
}
