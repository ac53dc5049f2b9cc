//! What is refused, and how it is said.

use super::*;

/// SHA-256 of `sk-1234`.
const SK_1234: &str = "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b";

fn refusal(before: &str, after: &str) -> String {
    match based(before, after) {
        Ok(_) => panic!("not refused: {before} {after}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn every_contradiction_is_refused_with_its_key_and_the_expected_form() {
    let key = |fields: &str| format!("[key.k]\nsha256 = \"{DIGEST}\"\n{fields}");
    let two = format!("[key.k]\nsha256 = \"{DIGEST}\"\n[key.l]\nsha256 = \"{}\"", DIGEST.to_uppercase());
    let backend = |fields: &str| format!("[backend.b]\nurl = \"https://b\"\n{fields}");
    let both = format!("[admin]\ntoken = {{ env = \"RINGWAY_ADMIN_TOKEN\", sha256 = \"{DIGEST}\" }}");
    let own_key = format!("[admin]\ntoken = {{ sha256 = \"{DIGEST}\" }}\n{}", key(""));
    let well_known = format!("[key.k]\nsha256 = \"{SK_1234}\"");
    #[rustfmt::skip] // one claim per line
    let table: &[(&str, &str, &str)] = &[
        ("listen = \"8080\"", "", "listen: expected an address and a port"),
        ("listen = \"localhost:8080\"", "", "listen: expected an address and a port"),
        ("listen = []", "", "listen: is empty"),
        ("listen = \"0.0.0.0:8080\"", "", "listen: there are no keys and other machines can reach 0.0.0.0:8080"),
        ("listen = \"127.0.0.1:9090\"", "", "admin.listen: 127.0.0.1:9090 is where clients connect"),
        ("listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "", "listen[1]: 127.0.0.1:1 is listened on already"),
        ("listen = \"127.0.0.1:0\"", "", "listen: has port 0"),
        ("listen = { address = \"127.0.0.1:1\", proxy_protocol = true }", "", "listen: has proxy_protocol = true, but nobody"),
        ("trusted_proxies = [\"10.0.0.1/8\"]", "", "trusted_proxies[0]: expected an address, or a network"),
        ("listen = { address = \"127.0.0.1:1\", tls = true }", "", "listen: has tls = true, but there is no [tls]"),
        ("", "[shared]\ngateways = 2", "shared: has no url of a Redis server"),
        ("", "[shared]\nurl = \"redis://r\"", "shared: has no gateways"),
        ("", "[shared]\nurl = \"http://r\"\ngateways = 2", "shared.url: expected redis://HOST:PORT"),
        ("", "[shared]\nurl = \"redis://:pw@r\"\ngateways = 2", "shared.url: holds a user or password"),
        ("", "[shared]\nurl = \"redis://r\"\ngateways = 1", "shared.gateways: "),
        ("", "[shared]\nurl = \"redis://r\"\ngateways = 2\nprefix = \"\"", "shared.prefix: expected 1 to 64"),
        ("", "[shared]\nurl = \"redis://r\"\ngateways = 2\nusername = \"u\"", "shared.username: has no password"),
        ("open = true", &key(""), "open: says that there are no keys"),
        ("", &key("team = \"t\""), "key.k.team: there is no [team.t]"),
        ("", &key("expires = \"soon\""), "key.k.expires: expected an instant with its offset"),
        ("", &key("expires = \"2027-01-01T00:00:00\""), "key.k.expires: expected an instant with its offset"),
        ("", &key("expires = \"1969-01-01T00:00:00Z\""), "key.k.expires: expected an instant with its offset"),
        ("", &key("apis = [\"chat\", \"chats\"]"), "key.k.apis[1]: no such endpoint; expected some of chat, "),
        ("", &key("apis = []"), "key.k.apis: is empty"),
        ("", &key("tags = [\"a b\"]"), "key.k.tags[0]: is no name"),
        ("", "[team.t]\nmodels = [\"none-*\"]", "team.t.models[0]: \"none-*\" fits no model and no alias"),
        ("", &key("budgets = [{ per = \"day\" }]"), "key.k.budgets[0]: expected exactly one of tokens and money"),
        ("", &key("budgets = [{ tokens = 1, money = 1.0, per = \"day\" }]"), "key.k.budgets[0]: expected exactly one of tokens"),
        ("", &key("budgets = [{ tokens = 0, per = \"day\" }]"), "key.k.budgets[0].tokens: is 0; expected 1 to"),
        ("", &key("budgets = [{ money = 0.0, per = \"day\" }]"), "key.k.budgets[0].money: is 0; expected 0.000001 to"),
        ("", &key("budgets = [{ money = nan, per = \"day\" }]"), "key.k.budgets[0].money: is NaN; expected 0.000001 to"),
        ("", &key("budgets = [{ tokens = 1, per = \"day\", zone = \"Mars/Olympus\" }]"), "key.k.budgets[0].zone: expected a zone of the IANA"),
        ("", &key("budgets = [{ tokens = 1, per = \"day\", zone = \"UTC\", rolling = true }]"), "key.k.budgets[0].zone: a rolling window"),
        ("", &key("budgets = [{ tokens = 1, per = \"day\" }, { tokens = 2, per = \"day\" }]"), "key.k.budgets[1]: is a second budget of the same kind"),
        ("", &key("budgets = [{ tokens = 1, per = \"year\" }]"), "key.k.budgets[0].per: no such choice; expected one of \"minute\", \"hour\""),
        ("", &key("budgets = [{ money = 1.0, per = \"day\" }]"), "key.k.budgets: has a budget of money, but the model m of key k has no price"),
        ("", &key("team = \"t\"\n[team.t]\nbudgets = [{ money = 1.0, per = \"day\" }]"), "team.t.budgets: has a budget of money, but the model m"),
        ("", "[end_users]\nrequests_per_minute = 5", "end_users: applies to no key: none has names_users = true"),
        ("", &key("names_users = true\n[end_users]\nkept = 0"), "end_users.kept: is 0; expected 1 to"),
        ("", &key("names_users = true\n[end_users]\nheader = \"x y\""), "end_users.header: expected the name of a header"),
        ("", &key("names_users = true\n[end_users]\ntokens_burst = 500"), "end_users.tokens_burst: has no tokens_per_minute to be a burst of"),
        ("", &key("names_users = true\n[end_users]\nbudgets = [{ tokens = 0, per = \"day\" }]"), "end_users.budgets[0].tokens: is 0; expected 1 to"),
        ("", &key("names_users = true\n[end_users]\nbudgets = [{ money = 1.0, per = \"day\" }]"), "end_users.budgets: has a budget of money, but the model m of key k"),
        ("", "[model.n]\nbackends = [\"b1\"]\noutput_max = 0", "model.n.output_max: is 0; expected 1 to"),
        ("", &key("shadow = [\"tokens_per_minute\"]"), "key.k.shadow: names tokens_per_minute, which is not set"),
        ("", &key("budgets = [{ tokens = 9, per = \"day\", soft = [{ at = 2.0, action = \"warn\" }] }]"), "key.k.budgets[0].soft[0].at: is 2; expected 0.001 to 1"),
        ("", &key("budgets = [{ tokens = 9, per = \"day\", soft = [{ at = 0.5, action = \"throttle\" }] }]"), "key.k.budgets[0].soft[0]: expected wait with throttle"),
        ("", &key("budgets = [{ tokens = 9, per = \"day\", soft = [{ at = 0.5, action = \"throttle\", wait = \"5m\" }] }]"), "key.k.budgets[0].soft[0].wait: is 5m; expected"),
        ("", &key("budgets = [{ tokens = 9, per = \"day\", soft = [{ at = 0.5, action = \"downgrade\", model = \"x\" }] }]"), "key.k.budgets[0].soft[0].model: is no model and no alias"),
        ("", &key("budgets = [{ tokens = 9, per = \"day\", soft = [{ at = 0.5, action = \"warn\" }, { at = 0.4, action = \"warn\" }] }]"), "key.k.budgets[0].soft: expected the shares in ascending order"),
        ("", "[price.none]\ninput_per_million = 1.0\noutput_per_million = 1.0", "price.none: fits no model and no alias"),
        ("", "[price.m]\ninput_per_million = -1.0\noutput_per_million = 1.0", "price.m.input_per_million: is -1; expected 0 to"),
        ("", "[price.m]\ninput_per_million = 1.0\noutput_per_million = 1.0\n[price.m.backend.no]\ncached_per_million = 0.5", "price.m.backend.no: there is no [backend.no]"),
        ("", "[team.t]\nmodels = []", "team.t.models: is empty, so the team could do nothing"),
        ("", "[team.t]\nrequests_burst = 5", "team.t.requests_burst: has no requests_per_minute to be a burst of"),
        ("", "[team.t]\nin_flight_max = 0", "team.t.in_flight_max: is 0; expected 1 to"),
        ("", "[team.t]\ntokens_per_minute = 10", "team.t.tokens_per_minute: is 10, so a request without a cap"),
        ("", &key("team = \"t\"\napis = [\"chat\"]\n[team.t]\napis = [\"rerank\"]"), "key.k.apis: has no endpoint that its team"),
        ("", "[access_log]\npath = \"stdot\"", "access_log.path: expected \"off\", \"stdout\" or the path"),
        ("", "[admin]\nlisten = \"x\"", "admin.listen: expected an address and a port"),
        ("", "[admin]\nlisten = \"0.0.0.0:9090\"", "admin.listen: other machines can reach 0.0.0.0:9090"),
        ("", "[admin]\ntoken = \"very-secret\"", "admin.token: expected { env = \"NAME\" }, { file = \"/path\" } or"),
        ("", "[admin]\ntoken = { env = \"WEAK\" }", "admin.token: the environment variable WEAK is one that everybody"),
        ("", "[admin]\ntoken = { env = \"SHORT\" }", "admin.token: the environment variable SHORT is shorter than 24"),
        ("", "[admin]\ntoken = { env = \"ALIKE\" }", "admin.token: the environment variable ALIKE is one that every"),
        ("", "[admin]\ntoken = { env = \"EMPTY\" }", "admin.token: the environment variable EMPTY is empty"),
        ("", "[admin]\ntoken = { env = \"NOT_SET\" }", "admin.token: the environment variable NOT_SET is not set"),
        ("", "[admin]\ntoken = { file = \"none\" }", "admin.token: cannot read /etc/ringway/none"),
        ("", "[admin]\ntoken = { sha256 = \"very-secret\" }", "admin.token: expected the SHA-256 of the key in 64"),
        ("", "[store]\nurl = \"ledger.db\"", "store.url: expected sqlite:///PATH, with three slashes"),
        ("", "[store]\nurl = \"sqlite://ledger.db\"", "store.url: expected sqlite:///PATH"),
        ("", "[store]\njournal = \"1MiB\"", "store.journal: is 1MiB; expected 16MiB to"),
        ("", "[store]\nkeep = \"1m\"", "store.keep: is 1m; expected 1h to 366d"),
        ("", "[store]\nfsync = \"sometimes\"", "store.fsync: "),
        ("", "[ids]\nsecret = \"very-secret\"", "ids.secret: expected { env = \"NAME\" } or { file = \"/path\" }"),
        ("", "[ids]\nsecret = { env = \"SHORT\" }", "ids.secret: the environment variable SHORT is shorter than 24"),
        ("", "[ids]\nsecret = { env = \"WEAK\" }", "ids.secret: the environment variable WEAK is one that everybody"),
        ("", "[ids]\nsecret = { env = \"NOT_SET\" }", "ids.secret: the environment variable NOT_SET is not set"),
        ("", "[ids]\nsecret = { file = \"none\" }", "ids.secret: cannot read /etc/ringway/none"),
        ("", "[admin]\nhosts = [\"a:1\"]", "admin.hosts[0]: expected the name of a host without a port"),
        ("", "[admin]\nhosts = [\"https://a\"]", "admin.hosts[0]: expected the name of a host without a port"),
        ("", "[cors]\norigins = [\"app.example\"]", "cors.origins[0]: expected \"*\" or an origin as browsers send it"),
        ("", "[cors]\norigins = [\"https://a/\"]", "cors.origins[0]: expected \"*\" or an origin as browsers send it"),
        ("", "[cors]\norigins = [\"*\", \"null\"]", "cors.origins[1]: is what browsers send for every page without"),
        ("", "[admin]\ntoken = {}", "admin.token: expected exactly one of"),
        ("", &both, "admin.token: expected exactly one of"),
        ("", &own_key, "admin.token: is the same secret as [key.k]"),
        ("", "[tls]\ncert_file = \"no\"\nkey_file = \"tls/key.pem\"", "tls.cert_file: cannot read /etc/ringway/no"),
        ("", "[tls]\ncert_file = \"tls/key.pem\"\nkey_file = \"tls/key.pem\"", "tls.cert_file: holds no certificate"),
        ("", "[shards]\ncores = \"0-8\"", "shards.cores: core 8 is not one this process may use"),
        ("", "[shards]\ncount = 9", "shards.count: is 9; expected 1 to 8"),
        ("", "[shards]\ncount = 0", "shards.count: is 0; expected 1 to 8"),
        ("", "[shards]\nring_entries = 1000", "shards.ring_entries: is 1000; expected a power of two"),
        ("", "[shards]\nsmall_buffer = \"16KiB\"", "shards.small_buffer: is 16KiB; expected less than large_buffer"),
        ("", "[shards.core.1]\nlarge_buffer = \"4KiB\"", "shards.core.1.small_buffer: is 4KiB; expected less"),
        ("", "[shards.core.1]\nconnections_max = 0", "shards.core.1.connections_max: is 0; expected 1 to 1000000"),
        ("", "[shards.core.9]\nidle_max = 1", "shards.core.9: no shard runs on core 9"),
        ("", "[shards]\npin = false\n[shards.core.1]\nidle_max = 1", "shards.core.1: shards are not pinned"),
        ("", "[timeouts]\nhead = \"0s\"", "timeouts.head: is 0s; expected 1ms to 7d"),
        ("", "[timeouts]\nbetween_events = \"31m\"", "between_events: is 31m; expected at most timeouts.total"),
        ("", "[timeouts]\nheartbeat = \"61s\"", "heartbeat: is 61s; expected at most timeouts.between_events"),
        ("", "[timeouts]\nguard_hold = \"0s\"", "timeouts.guard_hold: is 0s; expected 1ms to 7d"),
        ("", "[timeouts]\nresponse = \"31m\"", "response: is 31m; expected at most timeouts.total, which is 30m"),
        ("", "[timeouts]\nresponse = \"10m\"\ntotal = \"5m\"", "response: is 10m; expected at most timeouts.total"),
        ("", "[timeouts]\nresponse = \"0s\"", "timeouts.response: is 0s; expected 1ms to 7d"),
        ("", "[timeouts]\nfirst_byte = \"11m\"", "first_byte: is 11m; expected at most timeouts.response, which is 10m"),
        ("", "[timeouts]\nfirst_byte = \"169h\"", "timeouts.first_byte: is 169h; expected 0s to 7d"),
        ("", "[timeouts]\nfirst_token = \"2s\"", "first_token: is 2s; expected more than timeouts.connect"),
        ("", "[limits]\nhead = \"2MiB\"", "limits.head: is 2MiB; expected 1KiB to 1MiB"),
        ("", "[limits]\nbody = \"512KiB\"", "limits.body_buffer: is 1MiB; expected at most limits.body"),
        ("", "[limits]\ntarget = \"64KiB\"", "limits.target: is 64KiB; expected less than limits.head"),
        ("", "[limits]\nattempts = 0", "limits.attempts: is 0; expected 1 to 10"),
        ("", "[estimate]\nbytes_per_token = 0", "estimate.bytes_per_token: is 0"),
        ("", "[estimate]\nimage_tokens = 0", "estimate.image_tokens: is 0"),
        ("", "[health]\ntimeout = \"3s\"", "health.timeout: is 3s; expected at most health.interval, which is 2s"),
        ("", "[backend.\"b c\"]\nurl = \"http://b\"", "backend.\"b c\": is no name"),
        ("", "[backend.b]\nurl = \"b:80\"", "backend.b.url: expected http://HOST"),
        ("", "[backend.b]\nkind = \"vllm\"", "backend.b.url: is missing; expected url ="),
        ("", "[model.\"a*b\"]\nbackends = []", "model.\"a*b\": has a * that is not at its end"),
        ("", "[model.\"a b*\"]\nbackends = []", "model.\"a b*\": is no name"),
        ("", "[model.\"a*\"]\nbackends = []\naliases = [\"c\"]", "model.\"a*\".aliases: has names for a pattern"),
        ("", "[model.\"a*\"]\nbackends = []\n[model.b]\nbackends = []\nfallbacks = [\"a*\"]", "model.b.fallbacks[0]: a* is a pattern"),
        ("", "[backend.b]\nkind = \"azure\"", "backend.b.api_base: is missing; expected one like \"https://NAME.openai"),
        ("", "[backend.b]\nurl = \"https://b?v=1\"", "backend.b.url: has a query; expected scheme, host, port and path"),
        ("", "[backend.b]\nurl = \"https://b/v1/chat/completions\"", "backend.b.url: names an endpoint"),
        ("", "[backend.b]\napi_base = \"b:80\"", "backend.b.api_base: expected http://HOST"),
        ("", "[backend.b]\napi_base = \"https://u:sk-very-secret@b\"", "backend.b.api_base: holds a user or password"),
        ("", "[backend.b]\napi_base = \"https://b/v4#x\"", "backend.b.api_base: has a fragment"),
        ("", "[backend.b]\napi_base = \"unix:/b\"", "backend.b.api_base: names a socket"),
        ("", &backend("api_base = \"https://b/v4\""), "backend.b.api_base: is there beside url"),
        ("", &backend("api_key_header = \"api-key\""), "backend.b.api_key_header: has no api_key"),
        ("", &backend("api_key_header = \"cookie\""), "backend.b.api_key_header: expected \"authorization\","),
        ("", &backend("api_key = { env = \"NOT_SET\" }"), "backend.b.api_key: the environment variable NOT_SET is not"),
        ("", &backend("api_key = { env = \"sk-very-secret\" }"), "backend.b.api_key: the environment variable that env names"),
        ("", &backend("api_key = { env = \"EMPTY\" }"), "backend.b.api_key: the environment variable EMPTY is empty"),
        ("", &backend("api_key = { env = \"WITH_BREAK\" }"), "WITH_BREAK holds a control character"),
        ("", &backend("api_key = { file = \"two-lines\" }"), "two-lines holds a control character"),
        ("", &backend("api_key = { file = \"none\" }"), "backend.b.api_key: cannot read /etc/ringway/none"),
        ("", &backend("weight = 0"), "backend.b.weight: is 0; expected 1 to 10000"),
        ("", &backend("in_flight_max = 0"), "backend.b.in_flight_max: is 0"),
        ("", &backend("serves = [\"chat\", \"models\"]"), "backend.b.serves[1]: no such endpoint; expected some of chat,"),
        ("", &backend("serves = []"), "backend.b.serves: is empty"),
        ("", &backend("cert_file = \"tls/cert.pem\""), "backend.b.cert_file: has no key_file"),
        ("", &backend("key_file = \"tls/key.pem\""), "backend.b.key_file: has no cert_file"),
        ("", &backend("cert_file = \"none\"\nkey_file = \"tls/key.pem\""), "backend.b.cert_file: cannot read /etc/ringway/none"),
        ("", &backend("cert_file = \"tls/ca.pem\"\nkey_file = \"tls/ca.pem\""), "backend.b.key_file: tls/ca.pem holds no private key"),
        ("", "[backend.b]\nurl = \"http://b\"\ncert_file = \"a\"\nkey_file = \"b\"", "backend.b.cert_file: is for https only"),
        ("", &backend("ca_file = \"none\""), "backend.b.ca_file: cannot read /etc/ringway/none"),
        ("", &backend("ca_file = \"tls/ca.pem\"\ntls_verify = false"), "backend.b.ca_file: is there although"),
        ("", "[backend.b]\nurl = \"http://b\"\ntls_verify = false", "backend.b.tls_verify: is for https only"),
        ("", &backend("[backend.b.health]\npath = \"health\""), "backend.b.health.path: expected a path like"),
        ("", &backend("[backend.b.health]\nenabled = true"), "backend.b.health.path: is missing"),
        ("", &backend("[backend.b.health]\nenabled = false\npath = \"/h\""), "backend.b.health.path: is there although"),
        ("", &backend("[backend.b.health]\ntimeout = \"9s\""), "backend.b.health.timeout: is 9s; expected at most"),
        ("", "[model.n]\nbackends = []", "model.n.backends: is empty"),
        ("", "[model.n]\nbackends = [\"x\"]", "model.n.backends[0]: there is no [backend.x]; expected one of a"),
        ("", "[model.n]\nbackends = [\"a\", \"a\"]", "model.n.backends[1]: a is listed twice"),
        ("", "[model.n]\nbackends = [{ name = \"a\", weight = 0 }]", "model.n.backends[0].weight: is 0"),
        ("", "[model.n]\nbackends = [{ name = \"a\", model = \"\" }]", "model.n.backends[0].model: expected"),
        ("", "[model.n]\nbackends = [\"a\"]\naliases = [\"m\"]", "aliases[0]: \"m\" is a name of model \"m\" already"),
        ("", "[model.n]\nbackends = [\"a\"]\nfallbacks = [\"o\"]", "fallbacks[0]: there is no [model.\"o\"]"),
        ("", "[model.n]\nbackends = [\"a\"]\naliases = [\"x\"]\nfallbacks = [\"x\"]", "fallbacks[0]: x is the model itself"),
        ("", "[model.n]\nbackends = [\"a\"]\nfallbacks = [\"m\", \"m\"]", "fallbacks[1]: m is listed twice"),
        ("", "[timeouts]\nretry_wait = \"31m\"", "retry_wait: is 31m; expected at most timeouts.total"),
        ("", "[model.n]\nbackends = [\"a\"]\naliases = [\"x\", \"x\"]", "aliases[1]: \"x\" is a name of model \"n\""),
        ("", "[model.n]\nbackends = [\"a\"]\ntimeouts = { total = \"1s\" }", "model.n.timeouts.first_token: is 2m"),
        ("", "[model.n]\nbackends = [\"a\"]\ntimeouts = { response = \"31m\" }", "model.n.timeouts.response: is 31m; expected"),
        ("", "[model.n]\nbackends = [\"a\"]\ntimeouts = { first_byte = \"15m\" }", "model.n.timeouts.first_byte: is 15m; exp"),
        ("", "[guard.g]\naction = \"mask\"", "guard.g: searches for nothing; expected detect, patterns, words, request or external"),
        ("", "[guard.g]\naction = \"mask\"\nexternal = { backend = \"a\", form = \"webhook\" }", "guard.g.action: expected \"log\" or \"refuse\""),
        ("", "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"no\", form = \"webhook\" }", "guard.g.external.backend: there is no backend \"no\""),
        ("", "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"a\", form = \"judge\" }", "guard.g.external.model: is missing"),
        ("", "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"a\", form = \"judge\", model = \"x\", prompt = \"?\" }", "guard.g.external.prompt: expected {text}"),
        ("", "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"a\", form = \"webhook\", path = \"x\" }", "guard.g.external.path: is \"x\"; expected a path"),
        ("", "[guard.g]\naction = \"refuse\"\nexternal = { backend = \"a\", form = \"webhook\", timeout = \"2m\" }", "guard.g.external.timeout: is 2m; expected 1ms to 1m"),
        ("", "[guard.g]\naction = \"refuse\"\nwords = [\"a\"]\nexternal = { backend = \"a\", form = \"webhook\" }", "guard.g.external: stands beside"),
        ("", "[guard.g]\naction = \"refuse\"\nwords = [\"a\"]\nrestore = true", "guard.g.restore: expected action = \"mask\""),
        ("", "[guard.g]\naction = \"mask\"\nrequest = { tools_max = 1 }", "guard.g.action: expected \"refuse\", \"log\" or a route"),
        ("", "[guard.g]\naction = \"refuse\"\nrequest = {}", "guard.g.request: is empty"),
        ("", "[cache]\nentry = \"1GiB\"", "cache.entry: is 1GiB; expected 1KiB to 256MiB"),
        ("", "[cache]\nttl = \"0s\"", "cache.ttl: is 0s; expected 1ms to 30d"),
        ("", "[cache]\nmodels = [\"no-*\"]", "cache.models[0]: no model is named \"no-*\""),
        ("", "[guard.g]\naction = \"mask\"\ndetect = [\"cards\"]", "guard.g.detect[0]: is \"cards\"; expected one of"),
        ("", "[guard.g]\naction = \"mask\"\npatterns = [\"a(\"]", "guard.g: unclosed group"),
        ("", "[guard.g]\naction = \"mask\"\nwords = [\"a\"]\nwhere = [\"prompt\"]", "guard.g.where[0]: is \"prompt\""),
        ("", "[guard.g]\naction = { route = \"x\" }\nwords = [\"a\"]", "guard.g.action: there is no model \"x\""),
        ("", "[guard.g]\naction = \"mask\"\nwords = [\"a\"]\nlabel = \"<b>\"", "guard.g.label: expected 1 to 32 capitals"),
        ("", "[key.k]\nsha256 = \"sk-rw-1\"", "key.k.sha256: expected the SHA-256 of the key in 64 hex digits"),
        ("", &well_known, "key.k.sha256: is the digest of a word that everybody tries"),
        ("", &two, "key.l.sha256: is the same key as [key.k]"),
        ("", &key("models = [\"m\", \"gpt-*\"]"), "key.k.models[1]: \"gpt-*\" fits no model"),
        ("", &key("models = []"), "key.k.models: is empty"),
        ("", &key("requests_per_minute = 0"), "key.k.requests_per_minute: is 0"),
        ("", &key("requests_burst = 5"), "key.k.requests_burst: has no requests_per_minute"),
        ("", &key("tokens_per_minute = 256"), "key.k.tokens_per_minute: is 256, so a request without a cap"),
        ("", &key("in_flight_max = 0"), "key.k.in_flight_max: is 0"),
    ];
    for (before, after, expected) in table {
        let refusal = refusal(before, after);
        assert!(refusal.contains(expected), "{expected}\n{refusal}");
        assert!(refusal.lines().all(|line| line.starts_with("/etc/ringway/f.toml:")), "no line: {refusal}");
        assert!(!refusal.contains("very-secret") && !refusal.contains("sk-"), "{refusal}");
    }
}

#[test]
fn all_problems_are_found_in_one_run_and_sorted_by_line() {
    let text = "opne = true\nlisten = \"x\"\n[timeouts]\nhead = \"0s\"\n[backend.a]\nurl = \"x\"\n[model.m]\nbackends = [\"b\"]";
    let found = with(&Fake::new(), text).err().unwrap();
    let lines: Vec<_> = found.list.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [Some(1), Some(2), Some(4), Some(6), Some(8)], "{found}");
}

#[test]
fn a_file_without_backends_or_models_is_refused() {
    let refusal = with(&Fake::new(), "").err().unwrap().to_string();
    assert!(refusal.contains("backend: is missing") && refusal.contains("model: is missing"));
}

#[test]
fn https_without_any_authority_is_refused() {
    let fake = Fake { roots: Vec::new(), ..Fake::new() };
    let text = format!("{BASE}[backend.b]\nurl = \"https://b\"");
    assert!(with(&fake, &text).err().unwrap().to_string().contains("backend.b.url: needs authorities"));
    assert!(with(&fake, &format!("{text}\nca_file = \"tls/ca.pem\"")).is_ok());
}
