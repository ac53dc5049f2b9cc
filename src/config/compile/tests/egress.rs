//! Which backend is reached through which proxy.

use super::*;

const BACKENDS: &str = "
[backend.gpu]
url = \"http://gpu.example:8000\"
[backend.hosted]
url = \"https://api.example\"
hosted = true
[backend.plain]
url = \"http://10.1.2.3:81\"
hosted = true
[backend.unix]
url = \"unix:/run/a.sock\"
hosted = true
[model.m]
backends = [\"gpu\"]
";

fn fake(variables: &[(&'static str, &'static str)]) -> Fake {
    let mut fake = Fake::new();
    fake.variables.extend(variables.iter().copied());
    fake
}

/// The backends that have a proxy, each with its place and what it asks for.
fn proxies(fake: &Fake, egress: &str, gpu: &str) -> Vec<(String, String, String)> {
    let text = BACKENDS.replace("[backend.hosted]", &format!("{gpu}\n[backend.hosted]"));
    let plan = with(fake, &format!("{egress}\n{text}")).unwrap_or_else(|problems| panic!("{problems}")).plan;
    let proxy = |backend: &crate::plan::Backend| {
        let proxy = backend.proxy.as_ref()?;
        let connect = String::from_utf8(proxy.connect.to_vec()).unwrap();
        Some((backend.name.to_string(), proxy.to_string(), connect))
    };
    plan.backends.iter().filter_map(proxy).collect()
}

fn places(fake: &Fake, egress: &str, gpu: &str) -> Vec<String> {
    proxies(fake, egress, gpu).into_iter().map(|(name, place, _)| format!("{name} {place}")).collect()
}

#[test]
fn there_is_no_proxy_unless_one_is_named() {
    let fake = fake(&[("HTTPS_PROXY", "http://env:1"), ("HTTP_PROXY", "http://env:2")]);
    assert_eq!(places(&fake, "", ""), Vec::<String>::new());
    assert_eq!(places(&fake, "[egress]\nno_proxy = [\"*\"]", ""), Vec::<String>::new());
}

#[test]
fn a_proxy_is_for_what_is_hosted_unless_a_backend_says_otherwise() {
    let fake = fake(&[]);
    let egress = "[egress]\nproxy = \"http://proxy:3128\"\ncredential = { env = \"EGRESS_CREDENTIAL\" }";
    let credential = "Proxy-Authorization: Basic cmluZ3dheTp2ZXJ5LXNlY3JldC1j\r\n";
    let all = proxies(&fake, egress, "");
    let connect = |to: &str| format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{credential}\r\n");
    let row = |name: &str, to: &str| (name.to_owned(), "proxy:3128".to_owned(), connect(to));
    assert_eq!(all, [row("hosted", "api.example:443"), row("plain", "10.1.2.3:81")]);
    for (gpu, expected) in [
        ("proxy = true", "gpu proxy:3128"),
        ("kind = \"openai\"", "gpu proxy:3128"),
        ("kind = \"openai\"\nhosted = false", "hosted proxy:3128"),
        ("proxy = \"http://[::1]:8\"", "gpu [::1]:8"),
        ("proxy = false", "hosted proxy:3128"),
    ] {
        assert_eq!(places(&fake, egress, gpu)[0], expected, "{gpu}");
    }
    let own = proxies(&fake, egress, "proxy = \"http://other:1\"");
    assert!(!own[0].2.contains("Proxy-Authorization"), "the credential of [egress] is not for others");
    let own = "proxy = \"http://other:1\"\nproxy_credential = { env = \"EGRESS_CREDENTIAL\" }";
    assert!(proxies(&fake, "", own)[0].2.contains(credential));
    let hosted = "hosted = true\nproxy = false";
    assert_eq!(places(&fake, egress, hosted).len(), 2);
}

#[test]
fn what_no_proxy_names_goes_straight() {
    let fake = fake(&[]);
    for (list, expected) in [
        ("\"*\"", &[][..]),
        ("\"10.0.0.0/8\"", &["hosted proxy:3128"]),
        ("\"api.example:80\", \"10.1.2.3:80\"", &["hosted proxy:3128", "plain proxy:3128"]),
        ("\".example\"", &["plain proxy:3128"]),
    ] {
        let egress = format!("[egress]\nproxy = \"http://proxy:3128\"\nno_proxy = [{list}]");
        assert_eq!(places(&fake, &egress, ""), expected, "{list}");
    }
    let egress = "[egress]\nproxy = \"http://proxy:3128\"\nno_proxy = [\"*\"]";
    assert_eq!(places(&fake, egress, "proxy = true"), ["gpu proxy:3128"], "what a backend says stands");
}

#[test]
fn the_environment_names_proxies_by_scheme_in_either_case() {
    let egress = "[egress]\nproxy = \"environment\"";
    for (variables, expected) in [
        (&[][..], &[][..]),
        (&[("HTTPS_PROXY", "http://u:1")], &["hosted u:1"]),
        (&[("https_proxy", "l:2")], &["hosted l:2"]),
        (&[("HTTPS_PROXY", " "), ("https_proxy", "l:2")], &["hosted l:2"]),
        (
            &[("HTTPS_PROXY", "u:1"), ("https_proxy", "l:2"), ("HTTP_PROXY", "h:3")],
            &["hosted u:1", "plain h:3"],
        ),
        (&[("http_proxy", "h:3/"), ("NO_PROXY", "10.0.0.0/8")], &[]),
        (&[("https_proxy", "l:2"), ("no_proxy", "x.example, .example")], &[]),
        (&[("https_proxy", "l:2"), ("no_proxy", "x.example,http://api.example")], &["hosted l:2"]),
    ] {
        assert_eq!(places(&fake(variables), egress, ""), expected, "{variables:?}");
    }
    let https = fake(&[("HTTPS_PROXY", "http://u:p%40@env:1"), ("NO_PROXY", "api.example")]);
    assert_eq!(places(&https, "[egress]\nproxy = \"environment\"\nno_proxy = [\"10.0.0.0/8\"]", ""), [""; 0]);
    let own = fake(&[("http_proxy", "http://u:p%40@env:1")]);
    let connect = &proxies(&own, "", "proxy = \"environment\"")[0].2;
    assert!(connect.contains("Proxy-Authorization: Basic dTpwQA==\r\n"), "{connect}");
    let named = format!("{egress}\ncredential = {{ env = \"EGRESS_CREDENTIAL\" }}");
    assert!(!proxies(&own, &named, "")[0].2.contains("dTpwQA"), "what is named stands before the variable");
}

#[test]
fn what_a_proxy_cannot_be_is_refused_with_its_key_and_the_expected_form() {
    let egress = |lines: &str| format!("[egress]\n{lines}");
    let gpu = |lines: &str| format!("[backend.b]\nurl = \"http://b\"\n{lines}");
    let hosted = |lines: &str| format!("{}\n[egress]\n{lines}", gpu("hosted = true"));
    #[rustfmt::skip] // one claim per line
    let table = [
        (egress("proxy = \"proxy:3128\""), "egress.proxy: expected http://HOST:PORT; TLS to the proxy itself and SOCKS"),
        (egress("proxy = \"https://proxy:3128\""), "egress.proxy: expected http://HOST:PORT"),
        (egress("proxy = \"socks5://proxy:3128\""), "egress.proxy: expected http://HOST:PORT"),
        (egress("proxy = \"\""), "egress.proxy: expected http://HOST:PORT"),
        (egress("proxy = \"http://u:very-secret@proxy:3128\""), "egress.proxy: holds a user or password; write credential"),
        (egress("proxy = \"http://proxy:0\""), "egress.proxy: has no valid port"),
        (egress("proxy = \"http://pro xy\""), "egress.proxy: holds a space"),
        (egress("proxy = \"http://proxy/x\""), "egress.proxy: has a path"),
        (egress("proxy = true"), "egress.proxy: has a wrong type"),
        (egress("credential = { env = \"EGRESS_CREDENTIAL\" }"), "egress.credential: has no proxy to be presented to"),
        (egress("proxy = \"http://p\"\ncredential = \"very-secret:x\""), "egress.credential: expected { env = \"NAME\" }"),
        (egress("proxy = \"http://p\"\ncredential = { env = \"UNSET\" }"), "egress.credential: the environment variable UNSET is not set"),
        (egress("proxy = \"http://p\"\ncredential = { file = \"secret\" }"), "egress.credential: leads to something without a colon"),
        (egress("no_proxy = [\"a.example\", \"http://b\"]"), "egress.no_proxy[1]: expected a host like \"corp.example\""),
        (egress("no_proxy = \"a.example\""), "egress.no_proxy: has a wrong type"),
        (gpu("proxy = true"), "backend.b.proxy: is true, but [egress] has no proxy"),
        (gpu("proxy = 3128"), "backend.b.proxy: has a wrong type; expected a proxy like \"http://HOST:PORT\", true"),
        (gpu("proxy = \"http://u:very-secret@p\""), "backend.b.proxy: holds a user or password"),
        (gpu("proxy_credential = { env = \"EGRESS_CREDENTIAL\" }"), "backend.b.proxy_credential: has no proxy of the backend's own"),
        ("[backend.b]\nurl = \"unix:/b\"\nproxy = true".to_owned(), "backend.b.proxy: is for http and https only"),
        (gpu("proxy = true\n[egress]\nproxy = \"environment\""), "backend.b.proxy: is true, but the environment has neither HTTP_PROXY nor"),
        (hosted("proxy = \"environment\" # BAD"), "egress.proxy: the environment variable HTTP_PROXY expected http://HOST:PORT"),
    ];
    for (text, expected) in table {
        let bad = [("HTTP_PROXY", "socks5://very-secret:1")];
        let fake = fake(if text.ends_with("# BAD") { &bad } else { &[] });
        let refusal = match with(&fake, &format!("{BASE}{text}")) {
            Ok(_) => panic!("not refused: {text}"),
            Err(problems) => problems.to_string(),
        };
        assert!(refusal.contains(expected), "{expected}\n{refusal}");
        assert!(!refusal.contains("very-secret"), "{refusal}");
    }
}
