//! The package: what `scripts/package` packs runs where nothing else is, and `install` puts it in place and takes it away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::call::Call;
use crate::support::scene::Scene;
use crate::support::tools::{BUILDFLEET, on_path, script};

/// Where cargo makes its things.
fn target() -> &'static Path {
    Path::new(BUILDFLEET).parent().and_then(Path::parent).expect("a program is in a profile's folder")
}

/// The archive that was made before the tests.
pub(crate) fn archive() -> PathBuf {
    let made = fs::read_dir(target().join("package")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut archives: Vec<PathBuf> = made.filter(|path| path.extension().is_some_and(|end| end == "gz")).collect();
    archives.sort();
    let newest = archives.pop();
    newest.unwrap_or_else(|| panic!("no package in {}/package: run scripts/package --profile dev", target().display()))
}

/// The directory in the archive, unpacked below a scene.
pub(crate) fn unpacked(scene: &Scene) -> PathBuf {
    let dir = scene.path("unpacked");
    fs::create_dir(&dir).expect("a directory of our own");
    Call::new("tar")
        .words("--extract --gzip --no-same-owner --file")
        .arg(archive())
        .arg("--directory")
        .arg(&dir)
        .succeeds();
    let name = fs::read_dir(&dir).expect("it was unpacked").flatten().next().expect("one directory").file_name();
    dir.join(name)
}

/// Every file below a directory, relative to it, with its content.
fn files_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else {
                let content = fs::read(&path).unwrap_or_default();
                files.push((path.strip_prefix(dir).expect("it is below").to_owned(), content));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_programs_run_in_a_directory_with_nothing_else_in_it() {
    let scene = Scene::local();
    let package = unpacked(&scene);
    let empty = scene.path("empty");
    fs::create_dir(&empty).expect("a directory of our own");
    for program in ["buildfleet", "docker-buildfleet"] {
        fs::copy(package.join("bin").join(program), empty.join(program)).expect("it is in the package");
    }
    let inside = |words: &str| Call::new("chroot").arg(&empty).words(words);
    let version = inside("/buildfleet version").env("BUILDFLEET_RUNTIME_DIR", "/run").succeeds();
    version.says(env!("CARGO_PKG_VERSION"));
    inside("/docker-buildfleet docker-cli-plugin-metadata").succeeds().says("SchemaVersion");
}

#[test]
fn completions_are_read_by_their_shells_and_manual_pages_by_groff() {
    let scene = Scene::local();
    let share = unpacked(&scene).join("share");
    for (shell, reads, file) in [
        ("bash", "-n", "bash-completion/completions/buildfleet"),
        ("zsh", "-n", "zsh/site-functions/_buildfleet"),
        ("fish", "--no-execute", "fish/vendor_completions.d/buildfleet.fish"),
    ] {
        let program = on_path(shell).unwrap_or_else(|| panic!("no {shell} on PATH: apt-get install {shell}"));
        let read = Call::new(program).env("HOME", scene.path("home")).arg(reads).arg(share.join(file)).succeeds();
        assert_eq!((read.stdout.as_str(), read.stderr.as_str()), ("", ""), "{shell}");
    }
    // One that parses may still complete nothing.
    let complete = format!(
        ". {}/bash-completion/completions/buildfleet\nCOMP_WORDS=(buildfleet insp) COMP_CWORD=1\n\
         _buildfleet buildfleet insp buildfleet\necho \"${{COMPREPLY[@]}}\"",
        share.display()
    );
    assert_eq!(Call::new("bash").arg("-c").arg(complete).succeeds().word(), "inspect");

    let pages = files_below(&share.join("man/man1"));
    assert!(pages.len() > 20, "{} pages", pages.len());
    for (page, _) in pages {
        let read = Call::new("groff").words("-man -ww -z -Tutf8").arg(share.join("man/man1").join(&page)).succeeds();
        assert_eq!(read.stderr, "", "{}", page.display());
    }
}

#[test]
fn the_same_programs_make_the_same_package() {
    let scene = Scene::local();
    let arch = std::env::consts::ARCH;
    let built = |libc: &&str| target().join(format!("{arch}-unknown-linux-{libc}/debug/buildfleet")).is_file();
    let libc = ["musl", "gnu"].into_iter().find(built).expect("scripts/package --profile dev has built one");
    let pack = |out: &str, umask: &str, zone: &str| {
        let lines = format!("umask {umask}; exec \"$0\" --no-build --profile dev --target {libc} \"$1\"");
        let call = Call::new("sh").arg("-c").arg(lines).arg(script("package")).arg(scene.path(out));
        call.env("CARGO_TARGET_DIR", target()).env("TZ", zone).succeeds();
        files_below(&scene.path(out))
    };
    let first = pack("first", "022", "UTC");
    assert_eq!(first.len(), 2, "the archive and its checksum");
    assert!(first == pack("second", "077", "Asia/Tokyo"), "two runs made two packages");
    Call::new("sha256sum").words("--check --quiet").arg(&first[1].0).dir(scene.path("second")).succeeds();
}

/// A home in which docker has buildx, as it was before.
fn home_of_a_docker_user(scene: &Scene) -> Vec<(PathBuf, Vec<u8>)> {
    fs::write(scene.path("docker/config.json"), "{\n\t\"credsStore\": \"pass\"\n}").expect("a directory of our own");
    files_below(&scene.path("docker"))
}

#[test]
fn what_a_user_installs_works_and_goes_again_as_if_it_had_never_been() {
    let scene = Scene::local();
    let before = home_of_a_docker_user(&scene);
    let package = unpacked(&scene);
    let home = scene.path("home");
    fs::create_dir(home.join(".local")).expect("a directory of our own");
    let install = |words: &str| scene.shell(&format!("{}/install --user {words}", package.display()));
    install("").succeeds().says("is not on PATH").says("systemctl --user enable --now buildfleet.socket");
    let installed = files_below(&home.join(".local"));

    let local = home.join(".local");
    for file in ["bin/buildfleet", "bin/docker-buildfleet"] {
        assert_eq!(local.join(file).metadata().expect(file).permissions().mode() & 0o777, 0o755, "{file}");
    }
    for file in [
        "share/bash-completion/completions/buildfleet",
        "share/zsh/site-functions/_buildfleet",
        "share/fish/vendor_completions.d/buildfleet.fish",
        "share/man/man1/buildfleet-create.1",
    ] {
        assert!(local.join(file).is_file(), "no {file}");
    }
    let unit = local.join("share/systemd/user/buildfleet.service");
    let text = fs::read_to_string(&unit).expect("a unit");
    assert!(text.contains(&format!("ExecStart={}/bin/buildfleet daemon", local.display())), "{text}");
    let verified = Call::new("systemd-analyze").words("verify --man=no").arg(unit).succeeds();
    assert_eq!(verified.stderr, "");
    scene.shell("docker buildfleet version").succeeds().says(env!("CARGO_PKG_VERSION"));
    scene.shell("docker buildx version").succeeds().says("github.com/docker/buildx");

    // Again, by the archive; what is there already is no difference.
    fs::write(local.join("share/man/man1/mine.1"), "of somebody else").expect("a directory of our own");
    let again = format!("{} --user --from {}", script("install").display(), archive().display());
    scene.shell(&again).succeeds().says("earlier one");
    fs::remove_file(local.join("share/man/man1/mine.1")).expect("it is kept");
    assert!(files_below(&local) == installed, "a second run changed what is installed");

    // A daemon of the program that goes is told to go, too.
    scene.shell(&format!("{}/bin/buildfleet ls", local.display())).succeeds();
    install("--uninstall").succeeds().says("told the daemon to end");
    scene.no_process_is_left();
    assert!(local.read_dir().expect("it was there before").next().is_none(), "{:?}", files_below(&local));
    assert!(files_below(&scene.path("docker")) == before, "docker's directory is not what it was");
    install("--uninstall").succeeds().says("nothing of buildfleet is installed");
}

#[test]
fn an_archive_that_was_changed_is_refused() {
    let scene = Scene::local();
    let (copy, sum) = (scene.path("a.tar.gz"), scene.path("a.tar.gz.sha256"));
    fs::write(&copy, b"not what it was").expect("a directory of our own");
    let line = fs::read_to_string(format!("{}.sha256", archive().display())).expect("a checksum beside the archive");
    let (hash, _) = line.split_once(' ').expect("hash and name");
    fs::write(sum, format!("{hash}  a.tar.gz\n")).expect("a directory of our own");
    let install = scene.shell(&format!("{} --user --from {}", script("install").display(), copy.display()));
    install.fails().with_code(1).says("a.tar.gz is not what");
    assert!(!scene.path("home/.local").exists());
}

/// In a mount namespace of its own, in which what is written below these directories lands in another one.
#[test]
fn what_root_installs_for_everybody_goes_again_as_well() {
    let scene = Scene::local();
    let package = unpacked(&scene);
    // Docker looks there, and nowhere that only this test knows.
    let overlays = ["/usr/local", "/usr/libexec", "/usr/lib/docker", "/etc"];
    let mut lines = String::from("set -e\n");
    for (index, dir) in overlays.iter().enumerate().filter(|(_, dir)| Path::new(dir).is_dir()) {
        for part in ["upper", "work"] {
            fs::create_dir_all(scene.path(&format!("{part}{index}"))).expect("a directory of our own");
        }
        let (upper, work) = (scene.path(&format!("upper{index}")), scene.path(&format!("work{index}")));
        lines += &format!(
            "mount -t overlay overlay -o lowerdir={dir},upperdir={},workdir={} {dir}\n",
            upper.display(),
            work.display()
        );
    }
    let find = "find $(dirname $0)/upper* -type f -o -type l -o -type c";
    lines += &format!(
        "{package}/install --system\nhash -r\n/usr/local/bin/buildfleet version\ndocker buildfleet version\n\
         test -f /usr/local/lib/systemd/user/buildfleet.service\n\
         {package}/install --system\n\
         {package}/install --system --uninstall\necho 'left:' \"$({find})\" end\n",
        package = package.display()
    );
    let file = scene.path("as-root");
    fs::write(&file, lines).expect("a file of our own");
    let run = scene.shell(&format!("exec unshare --mount bash {}", file.display()));
    run.succeeds().says("installed buildfleet below /usr/local").says("left:  end");
}
