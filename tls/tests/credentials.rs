//! The file of a member's credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use goat_tls::credentials::{Request, digests};
use goat_tls::{Authority, Credentials, Role, Subject, Validity};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn made() -> (Authority, Credentials) {
    let authority = Authority::new("c1", SystemTime::now()).expect("an authority is made");
    let request = Request::new().expect("a key is made");
    let subject = Subject { role: Role::Worker, id: "n-1".into(), cluster: "c1".into() };
    let validity = Validity::lasting(SystemTime::now(), DAY);
    let certificate = authority.sign(request.as_bytes(), &subject, validity).expect("signed");
    let credentials = request.answered(&certificate, authority.certificate()).expect("they fit");
    (authority, credentials)
}

#[test]
fn they_are_read_as_they_were_stored_and_by_their_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("identity.pem");
    assert!(Credentials::load(&path).expect("nothing there").is_none());
    let (authority, credentials) = made();
    credentials.store(&path).expect("stored");
    credentials.store(&path).expect("stored again");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

    let found = Credentials::load(&path).expect("readable").expect("there");
    assert_eq!(found.to_pem(), credentials.to_pem());
    assert_eq!(found.subject(), &Subject { role: Role::Worker, id: "n-1".into(), cluster: "c1".into() });
    assert_eq!(found.signed_by(), Some(authority.digest()));
    assert_eq!(found.believes(), digests(authority.certificate()).expect("a certificate"));

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
    let error = Credentials::load(&path).expect_err("others may read it").to_string();
    assert!(error.contains("chmod 600"), "{error}");
}

#[test]
fn a_file_cut_short_anywhere_is_refused_without_its_contents() {
    let (_, credentials) = made();
    let text = credentials.to_pem();
    let secret = &text[40..80];
    // The last line may go: the certificate before it is whole without the final newline.
    for end in (0..text.len() - 1).step_by(7) {
        let error = Credentials::from_pem(&text[..end]).expect_err("it is cut short").to_string();
        assert!(!error.contains(secret), "{error}");
    }
}

#[test]
fn a_key_that_is_not_the_certificates_is_refused() {
    let ((_, one), (_, other)) = (made(), made());
    let key_end = "-----END PRIVATE KEY-----\n";
    let key = one.to_pem().split_inclusive(key_end).next().expect("a key").to_owned();
    let rest = other.to_pem().split_once(key_end).expect("a key").1.to_owned();
    let mixed = Credentials::from_pem(&(key + &rest)).expect("each part is well made");
    let error = goat_tls::Transport::new(mixed).expect_err("they do not fit").to_string();
    assert!(error.contains("the key is another's"), "{error}");
}

#[test]
fn what_a_request_says_of_itself_is_not_believed() {
    let (authority, _) = made();
    let subject = Subject { role: Role::Client, id: "ann".into(), cluster: "c1".into() };
    let validity = Validity::lasting(SystemTime::now(), DAY);
    for bad in [Vec::new(), vec![0x30; 100], vec![0; 1 << 20]] {
        assert!(authority.sign(&bad, &subject, validity).is_err());
    }
    let request = Request::new().expect("a key is made");
    let mut altered = request.as_bytes().to_vec();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    assert!(authority.sign(&altered, &subject, validity).is_err(), "its signature is wrong");
}

#[test]
fn an_authority_is_kept_as_two_texts() {
    let (authority, _) = made();
    let again = Authority::from_pem(authority.certificate(), &authority.key()).expect("its own texts");
    assert_eq!(again.digest(), authority.digest());
    assert!(!format!("{again:?}").contains("PRIVATE"));
}
