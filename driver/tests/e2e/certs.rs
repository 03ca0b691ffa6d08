//! The certificates of `buildfleet certs`, with openssl, `buildkitd` and `buildctl` as the judges.

use std::fs;
use std::time::{Duration, SystemTime};

use buildfleet::certificates::{Authority, Purpose, SubjectName, Text, Validity};

use crate::remote::{Buildkitd, free_port};
use crate::support::call::{Call, Outcome};
use crate::support::scene::Scene;
use crate::support::tools::on_path;

mod rollout;

/// Where `certs` works: the directory that programs are run in.
fn at(scene: &Scene, path: &str) -> String {
    scene.path("home").join(path).display().to_string()
}

fn openssl(scene: &Scene, words: &str) -> Outcome {
    let program = on_path("openssl").expect("openssl is on PATH");
    Call::new(program).dir(scene.path("home")).words(words).end()
}

#[test]
fn openssl_finds_what_the_documentation_says() {
    let scene = Scene::local();
    scene.buildfleet("certs create buildkitd.builds.svc *.builds.svc 127.0.0.1 ::1").succeeds();
    for (side, purpose, other) in [("daemon", "sslserver", "sslclient"), ("client", "sslclient", "sslserver")] {
        let verify = |purpose: &str| {
            openssl(
                &scene,
                &format!("verify -x509_strict -CAfile .certs/{side}/ca.pem -purpose {purpose} .certs/{side}/cert.pem"),
            )
        };
        assert!(verify(purpose).is_success(), "{}", verify(purpose));
        verify(other).failed().says("unsuitable certificate purpose");
        let shown = openssl(&scene, &format!("x509 -noout -text -in .certs/{side}/cert.pem")).succeeded();
        let shown = shown.says("ASN1 OID: prime256v1").says("Signature Algorithm: ecdsa-with-SHA256");
        let shown = shown
            .says("X509v3 Key Usage: critical\n                Digital Signature\n")
            .says("X509v3 Authority Key Identifier");
        match side {
            "daemon" => shown
                .says("DNS:buildkitd.builds.svc, DNS:*.builds.svc, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1")
                .says("TLS Web Server Authentication")
                .says_nothing_of("Client Authentication"),
            _ => {
                shown.says("DNS:client").says("TLS Web Client Authentication").says_nothing_of("Server Authentication")
            }
        };
        // 730 days, to the hour.
        let ends_after =
            |seconds: u32| openssl(&scene, &format!("x509 -noout -checkend {seconds} -in .certs/{side}/cert.pem"));
        assert!(ends_after(729 * 86_400).is_success() && !ends_after(730 * 86_400 + 60).is_success());
        let public = openssl(&scene, &format!("x509 -noout -pubkey -in .certs/{side}/cert.pem")).succeeded();
        let own = openssl(&scene, &format!("pkey -pubout -in .certs/{side}/key.pem")).succeeded();
        assert_eq!(public.stdout, own.stdout);
    }
    openssl(&scene, "x509 -noout -text -in .certs/ca/cert.pem")
        .succeeded()
        .says("X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n")
        .says("X509v3 Key Usage: critical\n                Certificate Sign\n");
    let lasts = |seconds: u32| openssl(&scene, &format!("x509 -noout -checkend {seconds} -in .certs/ca/cert.pem"));
    assert!(lasts(3649 * 86_400).is_success() && !lasts(3650 * 86_400 + 60).is_success());

    // `show` agrees with openssl.
    let shown = scene.buildfleet("certs show --format json").succeeds().json_lines();
    let daemon = shown.iter().find(|one| one["File"] == "daemon/cert.pem").expect("the daemon's certificate is shown");
    let print = openssl(&scene, "x509 -noout -fingerprint -sha256 -in .certs/daemon/cert.pem").succeeded();
    let print = print.word().split('=').nth(1).expect("a fingerprint").to_owned();
    assert_eq!(daemon["Fingerprint"], print.as_str());
}

#[test]
fn a_directory_is_not_written_over_and_its_keys_are_nobody_else_s() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::local();
    scene.buildfleet("certs create a.example https://b c:1").fails().with_code(2).says("`https://b`").says("`c:1`");
    scene.buildfleet("certs create a.example").succeeds();
    let key = fs::read_to_string(at(&scene, ".certs/daemon/key.pem")).expect("a key");
    scene.buildfleet("certs create b.example").fails().with_code(1).says(".certs/daemon/key.pem").says("certs renew");
    assert_eq!(fs::read_to_string(at(&scene, ".certs/daemon/key.pem")).expect("a key"), key);
    scene.buildfleet("certs create b.example --force --forget-ca-key").succeeds();
    assert_ne!(fs::read_to_string(at(&scene, ".certs/daemon/key.pem")).expect("a key"), key);
    let mut found = Vec::new();
    for directory in ["", "daemon", "client", "ca"] {
        let Ok(entries) = fs::read_dir(at(&scene, &format!(".certs/{directory}"))) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file())) {
            let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.path());
            found.push(format!("{directory}/{}", entry.file_name().to_string_lossy()));
        }
    }
    found.sort();
    let wanted = [
        "/SAN",
        "/buildkit-client-certs.yaml",
        "/buildkit-daemon-certs.yaml",
        "client/ca.pem",
        "client/cert.pem",
        "client/key.pem",
        "daemon/ca.pem",
        "daemon/cert.pem",
        "daemon/key.pem",
    ];
    assert_eq!(found, wanted);
    // Without its key nobody signs again.
    scene.buildfleet("certs renew --now").fails().says("the authority's key is not in").says("--new-ca trust");
}

#[test]
fn buildkitd_and_buildctl_accept_their_own_and_refuse_all_others() {
    let scene = Scene::local();
    scene.buildfleet("certs create 127.0.0.1").succeeds();
    // By then the second authority has another name: Go's clients show only what the daemon asks for by name.
    std::thread::sleep(Duration::from_millis(1100));
    scene.buildfleet("certs create --dir other 127.0.0.1").succeeds();
    expired_client(&scene);
    let port = free_port();
    let address = format!("tcp://127.0.0.1:{port}");
    let side = at(&scene, ".certs/daemon");
    let keys = format!("--tlscert {side}/cert.pem --tlskey {side}/key.pem");
    let daemon = Buildkitd::start(&scene, &address, &format!("--tlscacert {side}/ca.pem {keys}"));
    let buildctl = |ca: &str, client: &str, words: &str| {
        let flags = format!("--addr {address} --tlscacert {ca}/ca.pem");
        let shown = if client.is_empty() {
            String::new()
        } else {
            format!("--tlscert {client}/cert.pem --tlskey {client}/key.pem")
        };
        scene.buildctl(&flags).words(&shown).words(words).end()
    };
    let hello = scene.contexts().hello().display().to_string();
    let build =
        format!("build --progress plain --frontend dockerfile.v0 --local context={hello} --local dockerfile={hello}");
    buildctl(".certs/client", ".certs/client", &build).succeeded().says("machine: x86_64");
    scene.buildctl(&format!("--addr {address} --tlsdir .certs/client debug workers")).succeeds();
    let greeting = format!(
        "s_client -connect 127.0.0.1:{port} -CAfile .certs/client/ca.pem -verify_return_error \
                            -verify_ip 127.0.0.1 -cert .certs/client/cert.pem -key .certs/client/key.pem -alpn h2"
    );
    openssl(&scene, &greeting).succeeded().says("Verify return code: 0 (ok)").says("ALPN protocol: h2");

    // In their own words.
    for (ca, client, words) in [
        (".certs/client", "", "remote error: tls: certificate required"),
        (".certs/client", "other/client", "remote error: tls: certificate required"),
        (".certs/client", "expired", "remote error: tls: expired certificate"),
        (".certs/client", ".certs/daemon", "remote error: tls: bad certificate"),
        ("other/client", ".certs/client", "x509: certificate signed by unknown authority"),
    ] {
        // Sometimes the connection is closed before the client reads why: it says `broken pipe` then.
        let refused = (0..20).map(|_| buildctl(ca, client, "debug workers").failed());
        let told = refused.into_iter().any(|refused| refused.stderr.contains(words));
        assert!(told, "{client} with {ca}: nothing says {words}");
    }

    let verified = scene.buildfleet(&format!("certs verify 127.0.0.1:{port}")).succeeds();
    for words in [
        "ok   the daemon          is trusted as 127.0.0.1 until ",
        "ok   our certificate     is let in, by BuildKit v",
        "ok   no certificate      the server refuses the client: it wants a client certificate",
        "ok   another authority   the server refuses the client: it does not trust the authority",
    ] {
        assert!(verified.stdout.contains(words), "{words}: {verified}");
    }
    for (flags, words) in [
        ("--dir other", "FAILS   the daemon   the server's certificate is by an authority that is not trusted"),
        ("--dir turned", "FAILS   our certificate     the server refuses the client: the client certificate has ended"),
        ("--servername buildkitd", "FAILS   the daemon   the server's certificate is for other names: "),
    ] {
        scene.buildfleet(&format!("certs verify {address} {flags}")).fails().with_code(1).says(words);
    }
    drop(daemon);

    // One that asks nobody for a certificate is found.
    let _daemon = Buildkitd::start(&scene, &address, &keys);
    let open = scene.buildfleet(&format!("certs verify {address}")).fails().with_code(1);
    open.says("FAILS   no certificate      is let in: whoever reaches the address can build")
        .says("2 of 4 checks failed");
}

#[test]
fn a_directory_that_others_have_made_is_changed_over_to_an_authority_of_our_own() {
    let scene = Scene::local();
    // As mkcert does it: RSA, and no key of the authority is left.
    scene
        .shell(
            "set -e; mkdir -p .certs/daemon .certs/client; cd .certs
             openssl req -x509 -newkey rsa:3072 -nodes -keyout ca.key -out daemon/ca.pem -days 99 -subj /CN=theirs
             cp daemon/ca.pem client/ca.pem
             for side in daemon client; do
               openssl req -newkey rsa:2048 -nodes -keyout $side/key.pem -out csr -subj /CN=$side
               printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >ext
               openssl x509 -req -in csr -CA daemon/ca.pem -CAkey ca.key -CAcreateserial -days 60 -extfile ext -out $side/cert.pem
             done; rm ca.key",
        )
        .succeeds();
    let shown = scene.buildfleet("certs show").succeeds();
    assert!(shown.stdout.contains("RSA 2048") && shown.stdout.contains("localhost, 127.0.0.1"), "{shown}");
    scene.buildfleet("certs renew --now").fails().says("--new-ca trust");
    for (step, roots) in [("trust", 2), ("switch", 2), ("drop", 1)] {
        scene.buildfleet(&format!("certs renew --new-ca {step}")).succeeds();
        let ca = fs::read_to_string(at(&scene, ".certs/client/ca.pem")).expect("a file of our own");
        assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), roots, "{step}");
        openssl(
            &scene,
            "verify -CAfile .certs/client/ca.pem -purpose sslserver -verify_ip 127.0.0.1 .certs/daemon/cert.pem",
        )
        .succeeded();
        openssl(&scene, "verify -CAfile .certs/daemon/ca.pem -purpose sslclient .certs/client/cert.pem").succeeded();
    }
    scene.buildfleet("certs show").succeeds().says("ECDSA P-256").says_nothing_of("theirs").says_nothing_of("warning");
}

/// `expired` with a client's certificate that has ended, and `turned`, a directory with it.
fn expired_client(scene: &Scene) {
    let read = |name: &str| fs::read(at(scene, &format!(".certs/ca/{name}"))).expect("the authority was kept");
    let (certificate, key) = (read("cert.pem"), read("key.pem"));
    let text = |text| Text { text, place: String::new() };
    let authority = Authority::read(&text(&certificate), &text(&key)).expect("an authority");
    let day = Duration::from_secs(86_400);
    let validity = Validity::starting(SystemTime::now() - 2 * day, day);
    let name: SubjectName = "client".parse().expect("a name");
    let signed = authority.sign("client", &[name], Purpose::Client, validity).expect("a certificate");
    Call::new("cp").words("-r .certs turned").dir(scene.path("home")).succeeds();
    for directory in ["expired", "turned/client"] {
        fs::create_dir_all(at(scene, directory)).expect("a directory of our own");
        for (name, text) in [("cert.pem", &signed.certificate), ("key.pem", &signed.key)] {
            fs::write(at(scene, &format!("{directory}/{name}")), text).expect("a file of our own");
        }
    }
}
