//! The commands of the terminal, run as a person runs them.

use std::process::{Command, Output, Stdio};

use support::folder::Folder;
use support::gateway::{Config, Gateway, free_port};
use support::origin::Origin;
use support::{J, chat};

fn ringway(arguments: &[&str]) -> Output {
    Command::new(support::binary()).args(arguments).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn a_new_key_is_shown_once_and_its_table_lets_it_in() {
    let made = ringway(&["key", "new", "ci", "--model", "m", "--requests-per-minute", "600"]);
    assert!(made.status.success(), "{made:?}");
    let (table, shown) = (text(&made.stdout), text(&made.stderr));
    let key = shown.split_whitespace().find(|word| word.starts_with("sk-rw-")).expect("the key");
    assert!(!table.contains(key), "the file is to hold the digest only: {table}");

    let origin = Origin::start();
    let quiet = "health = { enabled = false }";
    let config = Config::new().backend("b1", origin.port, quiet).model("m", &["b1"], "").tables(&table);
    let gateway = Gateway::start(&config);
    let status = |key: &str| {
        let mut client = gateway.connect();
        client.send(&chat(key, "new", J));
        client.answer().expect("a response").status()
    };
    assert_eq!(status(key), 200);
    let other = format!("{}{}", &key[..key.len() - 1], if key.ends_with('a') { 'b' } else { 'a' });
    assert_eq!(status(&other), 401, "one letter makes another key");
}

#[test]
fn a_name_that_no_table_may_have_makes_no_key() {
    for name in ["", "two words", "a/b", "quo\"te", "line\nbreak"] {
        let made = ringway(&["key", "new", name]);
        assert_eq!(made.status.code(), Some(1), "{name:?}: {made:?}");
        assert!(made.stdout.is_empty(), "{name:?}: {made:?}");
        assert!(text(&made.stderr).contains("expected 1 to 128 of a-z"), "{made:?}");
    }
}

#[test]
fn a_new_key_for_a_script_is_one_json_object() {
    let made = ringway(&["key", "new", "search.team", "--json"]);
    let object: serde_json::Value = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(object["name"], "search.team");
    assert!(object["key"].as_str().is_some_and(|key| key.starts_with("sk-rw-")), "{object}");
    assert_eq!(object["sha256"].as_str().map(str::len), Some(64), "{object}");
    assert!(made.stderr.is_empty(), "{made:?}");
}

/// What is imported is a configuration that is accepted as it is.
#[test]
fn a_configuration_of_litellm_is_imported() {
    let folder = Folder::new("import");
    let list = "model_list:\n\
        - {model_name: llama, litellm_params: {model: hosted_vllm/llama-3, api_base: 'http://127.0.0.1:8000/v1', weight: 3}}\n\
        - {model_name: llama, litellm_params: {model: hosted_vllm/llama-3, api_base: 'http://127.0.0.1:8001', timeout: 90}}\n\
        - {model_name: gpt-4o, litellm_params: {model: openai/gpt-4o, api_key: sk-secret}, model_info: {input_cost_per_token: 2.5e-06, output_cost_per_token: 0.00001}}\n\
        - {model_name: 'claude-*', litellm_params: {model: 'anthropic/claude-*', api_key: os.environ/ANTHROPIC_API_KEY}}\n\
        - {model_name: titan, litellm_params: {model: bedrock/amazon.nova, aws_region_name: eu-west-1}}\n\
        router_settings: {routing_strategy: least-busy, num_retries: 2, fallbacks: [{llama: [gpt-4o]}], model_group_alias: {x: llama}}\n\
        litellm_settings: {drop_params: false, cache: true, cache_params: {ttl: 60}, callbacks: [a]}\n";
    let theirs = folder.file("config.yaml", list);
    let imported = ringway(&["import", "litellm", theirs.to_str().expect("text")]);
    assert!(imported.status.success(), "{imported:?}");
    let told = text(&imported.stderr);
    assert!(told.contains("litellm_settings.callbacks") && told.contains("OPENAI_API_KEY"), "{told}");
    assert!(!text(&imported.stdout).contains("sk-secret"));
    let ours = folder.file("ringway.toml", &imported.stdout);
    let mut check = Command::new(support::binary());
    check.args(["check", ours.to_str().expect("text")]);
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"] {
        check.env(name, "secret");
    }
    let checked = check.output().expect("it runs");
    assert!(checked.status.success(), "{checked:?}\n{}", text(&imported.stdout));
    let refused = ringway(&["import", "litellm", ours.to_str().expect("text")]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}

#[test]
fn serve_and_check_take_their_file_alike() {
    let folder = Folder::new("commands");
    let file = folder.file("wrong.toml", "nonsense = 1\n");
    let file = file.to_str().expect("text");
    for command in ["serve", "check", "reload", "upgrade"] {
        for arguments in [&[command, file][..], &[command, "--config", file]] {
            let refused = ringway(arguments);
            assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {refused:?}");
            assert!(text(&refused.stderr).contains("nonsense"), "{arguments:?}: {refused:?}");
        }
    }
}

/// A configuration of `examples/` as its reader tries it: served with other ports, and asked by the curl in its comment.
fn try_example(name: &str, text: &str, origin: &Origin) {
    let folder = Folder::new(name);
    let (port, admin) = (free_port(), free_port());
    let backend = format!("url = \"http://127.0.0.1:{}\"", origin.port);
    let mut served: String = text
        .lines()
        .map(|line| if line.starts_with("url = ") { backend.as_str() } else { line })
        .fold(String::new(), |served, line| served + line + "\n");
    served = served.replace(":8080\"", &format!(":{port}\""));
    served.push_str(&format!("[admin]\nlisten = \"127.0.0.1:{admin}\"\n"));
    let file = folder.file("ringway.toml", served);
    let mut serve = ringway_for_examples(&["serve"]);
    serve.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
    let mut gateway = serve.spawn().expect("the binary runs");

    let is_ready =
        support::eventually(support::PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let comment = text.lines().map_while(|line| line.strip_prefix('#')).collect::<Vec<_>>().join("\n");
    let curl = &comment[comment.find("  curl ").unwrap_or_else(|| panic!("{name} has no curl"))..];
    let curl = curl.split("\n\n").next().unwrap_or(curl).replace("curl ", "curl -sS --fail-with-body ");
    let asked = Command::new("sh").args(["-c", &curl.replace(":8080", &format!(":{port}"))]).output();
    let _ = gateway.kill();
    let _ = gateway.wait();
    let asked = asked.expect("curl runs");
    assert!(is_ready, "{name} does not serve");
    assert!(asked.status.success(), "{name}: {curl}\n{asked:?}");
    assert!(!asked.stdout.is_empty(), "{name}: {curl}");
}

/// The binary, with what the examples expect in the environment.
fn ringway_for_examples(arguments: &[&str]) -> Command {
    let mut command = Command::new(support::binary());
    command
        .args(arguments)
        .env("OPENAI_API_KEY", "sk-example-openai")
        .env("ANTHROPIC_API_KEY", "sk-example-anthropic");
    command
}

#[test]
fn every_example_serves_and_its_curl_gets_a_response() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let origin = Origin::start();
    let mut tried = 0;
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let checked = ringway_for_examples(&["check"]).arg(&path).output().expect("the binary runs");
        assert!(checked.status.success(), "{name}: {checked:?}");
        try_example(&name, &std::fs::read_to_string(&path).expect("text"), &origin);
        tried += 1;
    }
    assert!(tried >= 6, "{tried} examples");
}

#[test]
fn guard_test_prints_what_each_rule_finds_and_what_would_happen() {
    let config = "[backend.b1]\nkind = \"vllm\"\nurl = \"http://127.0.0.1:9\"\n[model.m]\nbackends = [\"b1\"]\n\
        [model.free]\nbackends = [\"b1\"]\n[guard.cards]\ndetect = [\"payment_card\"]\nwhere = [\"input\", \"output\"]\n\
        action = \"mask\"\nmodels = [\"m\"]\n[guard.orion]\nwords = [\"project orion\"]\nwhere = [\"input\", \"output\"]\n\
        action = \"refuse\"\nmodels = [\"m\"]\n[guard.seen]\npatterns = [\"n.w\"]\naction = \"refuse\"\nshadow = true\nmodels = [\"m\"]\n";
    let folder = Folder::new("guard-test");
    let path = folder.file("ringway.toml", config);
    let run = |arguments: &[&str]| {
        let config = ["--config", path.to_str().expect("a path")];
        let run = ringway(&[&["guard", "test"], arguments, &config].concat());
        assert!(run.status.success(), "{run:?}");
        text(&run.stdout)
    };
    let shown = run(&["--text", "pay 4111 1111 1111 1111 now"]);
    for line in [
        "model m:\n",
        "  4..23        cards            payment_card   mask  \"4111 1111 1111 1111\"\n",
        "  24..27       seen             pattern        refuse, only counted (shadow)  \"now\"\n",
        "  request: passes, masked\n",
        "  text: pay <CARD_1> now\n",
        "model free: no content rules\n",
    ] {
        assert!(shown.contains(line), "{line:?} in\n{shown}");
    }
    let said = "it is Project Orion";
    let object: serde_json::Value = serde_json::from_str(&run(&["--text", said, "--json"])).expect("JSON");
    assert_eq!(object["found"][0]["start"], 6);
    assert_eq!((&object["decides"], &object["text"]), (&"orion".into(), &said.into()));
    let refused = object["outcomes"]["request"].as_str().expect("an outcome");
    assert!(refused.contains("400 content_policy_violation"), "{refused}");
    let shown = run(&["--text", said, "--where", "output", "--model", "m"]);
    assert!(shown.contains("response: a stream ends before byte 6 with an error"), "{shown}");
    assert!(run(&["--text", "fine"]).contains("nothing is found"));
    for arguments in
        [&["--text", "x", "--model", "none"][..], &["--text", "x", "--key", "none"], &["/nowhere/text"]]
    {
        let config = ["--config", path.to_str().expect("a path")];
        let run = ringway(&[&["guard", "test"], arguments, &config].concat());
        assert_eq!(run.status.code(), Some(1), "{run:?}");
    }
}

#[test]
fn each_command_has_a_manual_page_and_each_shell_its_completions() {
    let folder = Folder::new("man");
    let made = ringway(&["man", folder.text()]);
    assert!(made.status.success(), "{made:?}");
    for (page, part) in
        [("ringway.1", "ringway\\-serve"), ("ringway-key-create.1", "requests\\-per\\-minute")]
    {
        let text = std::fs::read_to_string(folder.path().join(page)).expect(page);
        assert!(text.starts_with(".ie") && text.contains(part), "{page}: {text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let made = ringway(&["completions", shell]);
        let script = text(&made.stdout);
        assert!(made.status.success() && script.contains("requests-per-minute"), "{shell}: {made:?}");
        let Ok(output) = Command::new(shell).arg("--version").output() else { continue };
        assert!(output.status.success());
        let file = folder.file("script", script);
        let parsed = Command::new(shell).arg("-n").arg(file).output().expect("the shell runs");
        assert!(parsed.status.success(), "{shell}: {parsed:?}");
    }
    assert_eq!(ringway(&["completions", "tcsh"]).status.code(), Some(2));
}
