//! What an engine's metrics page says of its load, under the names that each engine uses.
//!
//! Pure: a page in Prometheus' text format goes in, what it says comes out. A member that the page lacks is unknown: neither
//! idle nor full.

/// What one page says.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct EngineLoad {
    /// Requests that wait for a place in the batch.
    pub waiting: Option<u32>,
    /// Requests in the batch.
    pub running: Option<u32>,
    /// Share of the KV cache that running requests occupy, 0 to 1.
    pub kv_usage: Option<f32>,
    /// Tokens that the KV cache can hold.
    pub kv_tokens: Option<u64>,
}

/// Where an engine serves its metrics, and under which names. Of several names the first one found counts: versions rename.
#[derive(Debug)]
pub struct EnginePage {
    /// From the root of the server.
    pub path: &'static str,
    waiting: &'static [Series],
    running: &'static [Series],
    kv_usage: &'static [Series],
    capacity: &'static [Capacity],
}

/// A metric; with a label and its value, only those of its series.
#[derive(Debug)]
struct Series {
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
}

/// How an engine says what its cache holds.
#[derive(Debug)]
enum Capacity {
    Tokens(Series),
    /// The number of blocks, and the tokens of each.
    Blocks(Series, Series),
    /// Two labels of one metric: blocks, and tokens of each.
    Labels(&'static str, &'static str, &'static str),
}

const fn all(name: &'static str) -> Series {
    Series { name, label: None }
}

const fn only(name: &'static str, label: &'static str, value: &'static str) -> Series {
    Series { name, label: Some((label, value)) }
}

/// Since 0.10 the usage is `kv_cache_usage_perc`, a share in spite of its name.
pub(super) static VLLM: EnginePage = EnginePage {
    path: "/metrics",
    waiting: &[all("vllm:num_requests_waiting")],
    running: &[all("vllm:num_requests_running")],
    kv_usage: &[all("vllm:kv_cache_usage_perc"), all("vllm:gpu_cache_usage_perc")],
    capacity: &[Capacity::Labels("vllm:cache_config_info", "num_gpu_blocks", "block_size")],
};

/// Served with `--enable-metrics` only. The colon is an underscore where a collector in between does not allow it.
pub(super) static SGLANG: EnginePage = EnginePage {
    path: "/metrics",
    waiting: &[all("sglang:num_queue_reqs"), all("sglang_num_queue_reqs")],
    running: &[all("sglang:num_running_reqs"), all("sglang_num_running_reqs")],
    kv_usage: &[all("sglang:token_usage"), all("sglang_token_usage")],
    capacity: &[
        Capacity::Tokens(all("sglang:max_total_num_tokens")),
        Capacity::Tokens(all("sglang_max_total_num_tokens")),
        Capacity::Labels("sglang:cache_config_info", "num_pages", "page_size"),
    ],
};

/// `trtllm-serve`: its `/metrics` is JSON of single iterations.
pub(super) static TENSOR_RT_LLM: EnginePage = EnginePage {
    path: "/prometheus/metrics",
    waiting: &[all("trtllm_num_requests_waiting")],
    running: &[all("trtllm_num_requests_running")],
    kv_usage: &[all("trtllm_kv_cache_utilization")],
    capacity: &[Capacity::Blocks(all("trtllm_kv_cache_max_blocks"), all("trtllm_kv_cache_tokens_per_block"))],
};

/// With the TensorRT-LLM backend, else with vLLM's. The page of the server itself is on a port of its own (8002).
pub(super) static TRITON: EnginePage = EnginePage {
    path: "/metrics",
    waiting: &[
        only("nv_trt_llm_request_metrics", "request_type", "waiting"),
        all("vllm:num_requests_waiting"),
        all("nv_inference_pending_request_count"),
    ],
    running: &[
        only("nv_trt_llm_request_metrics", "request_type", "scheduled"),
        all("vllm:num_requests_running"),
    ],
    kv_usage: &[
        only("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "fraction"),
        all("vllm:kv_cache_usage_perc"),
        all("vllm:gpu_cache_usage_perc"),
    ],
    capacity: &[
        Capacity::Blocks(
            only("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "max"),
            only("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "tokens_per"),
        ),
        Capacity::Labels("vllm:cache_config_info", "num_gpu_blocks", "block_size"),
    ],
};

/// Served with `--metrics` only.
pub(super) static LLAMA_CPP: EnginePage = EnginePage {
    path: "/metrics",
    waiting: &[all("llamacpp:requests_deferred")],
    running: &[all("llamacpp:requests_processing")],
    kv_usage: &[all("llamacpp:kv_cache_usage_ratio")],
    capacity: &[],
};

/// Its queue does not include the batch.
pub(super) static TGI: EnginePage = EnginePage {
    path: "/metrics",
    waiting: &[all("tgi_queue_size")],
    running: &[all("tgi_batch_current_size")],
    kv_usage: &[],
    capacity: &[],
};

impl EnginePage {
    /// Reads a page. Counts are summed over label sets (engines with several ranks), shares averaged; lines that are not
    /// understood are skipped.
    pub fn read(&self, page: &str) -> EngineLoad {
        let count = |of: &[Series]| of.iter().find_map(|series| series.sum(page)).map(|count| count as u32);
        let kv_usage = self.kv_usage.iter().find_map(|series| series.mean(page));
        EngineLoad {
            waiting: count(self.waiting),
            running: count(self.running),
            kv_usage: kv_usage.map(|share| share.min(1.0) as f32),
            kv_tokens: self.capacity.iter().find_map(|capacity| capacity.tokens(page)),
        }
    }
}

impl Capacity {
    fn tokens(&self, page: &str) -> Option<u64> {
        let tokens = match self {
            Self::Tokens(series) => series.sum(page)?,
            Self::Blocks(blocks, size) => blocks.sum(page)? * size.mean(page)?,
            Self::Labels(name, blocks, size) => samples(page, name)
                .map(|(labels, _)| Some(number(labels, blocks)? * number(labels, size)?))
                .sum::<Option<f64>>()?,
        };
        (1.0..TOKENS_MAX).contains(&tokens).then_some(tokens as u64)
    }
}

impl Series {
    fn values<'a>(&'a self, page: &'a str) -> impl Iterator<Item = f64> + 'a {
        let fits = |labels: &str| {
            // With metrics of all schedulers on, each rank of a tensor-parallel group reports the same requests.
            is_first_rank(labels) && self.label.is_none_or(|(name, is)| label(labels, name) == Some(is))
        };
        samples(page, self.name).filter(move |(labels, _)| fits(labels)).map(|(_, value)| value)
    }

    fn sum(&self, page: &str) -> Option<f64> {
        self.values(page).reduce(|sum, value| sum + value)
    }

    fn mean(&self, page: &str) -> Option<f64> {
        let (count, sum) = self.values(page).fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
        (count > 0).then(|| sum / f64::from(count))
    }
}

/// The labels and the value of each sample of a metric.
fn samples<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None if rest.starts_with([' ', '\t']) => ("", rest),
            None => return None, // a longer name
        };
        let value: f64 = value.split_whitespace().next()?.parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some((labels, value))
    })
}

/// What a label says. A quoted comma or quote ends it early, which no label read here has.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let value = labels.split(',').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix("=\""))?;
    value.strip_suffix('"')
}

fn number(labels: &str, name: &str) -> Option<f64> {
    label(labels, name)?.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0)
}

fn is_first_rank(labels: &str) -> bool {
    label(labels, "tp_rank").is_none_or(|rank| rank == "0")
}

/// A cache of more tokens than this is a misread page.
const TOKENS_MAX: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_vllm_is_summed_over_its_ranks_and_its_usage_averaged() {
        let page = "# HELP vllm:num_requests_waiting Number of requests waiting.\n# TYPE vllm:num_requests_waiting gauge\n\
            vllm:num_requests_waiting{engine=\"0\",model_name=\"a{b}\"} 3.0\n\
            vllm:num_requests_waiting{engine=\"1\",model_name=\"a\"} 4.0\n\
            vllm:num_requests_waiting_by_reason{reason=\"x\"} 99\n\
            vllm:num_requests_running{engine=\"0\"} 1.2e1 1700000000\n\
            vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n\
            vllm:cache_config_info{block_size=\"16\",cache_dtype=\"auto\",num_gpu_blocks=\"1000\"} 1.0\n";
        let expected = EngineLoad {
            waiting: Some(7),
            running: Some(12),
            kv_usage: Some(0.375),
            kv_tokens: Some(16_000),
        };
        assert_eq!(VLLM.read(page), expected);
        let old = "vllm:gpu_cache_usage_perc 0.75\n";
        assert_eq!(VLLM.read(old), EngineLoad { kv_usage: Some(0.75), ..EngineLoad::default() });
    }

    #[test]
    fn sglang_counts_one_rank_of_a_tensor_parallel_group_and_all_data_parallel_ones() {
        let page = "sglang:num_running_reqs{tp_rank=\"0\",dp_rank=\"0\"} 5\nsglang:num_running_reqs{tp_rank=\"1\",dp_rank=\"0\"} 5\n\
            sglang:num_running_reqs{tp_rank=\"0\",dp_rank=\"1\"} 2\nsglang_num_queue_reqs 3\nsglang:token_usage 0.5\n\
            sglang:max_total_num_tokens 4000\n";
        let expected =
            EngineLoad { waiting: Some(3), running: Some(7), kv_usage: Some(0.5), kv_tokens: Some(4_000) };
        assert_eq!(SGLANG.read(page), expected);
        let pages = "sglang:cache_config_info{num_pages=\"100\",page_size=\"64\"} 1\n";
        assert_eq!(SGLANG.read(pages).kv_tokens, Some(6_400));
    }

    #[test]
    fn the_other_engines_have_their_names() {
        let tensor = "trtllm_num_requests_waiting 1\ntrtllm_num_requests_running 2\ntrtllm_kv_cache_utilization 0.5\n\
            trtllm_kv_cache_max_blocks 10\ntrtllm_kv_cache_tokens_per_block 32\n";
        let expected =
            EngineLoad { waiting: Some(1), running: Some(2), kv_usage: Some(0.5), kv_tokens: Some(320) };
        assert_eq!(TENSOR_RT_LLM.read(tensor), expected);
        let triton = "nv_trt_llm_request_metrics{model=\"t\",request_type=\"waiting\",version=\"1\"} 4\n\
            nv_trt_llm_request_metrics{model=\"t\",request_type=\"scheduled\",version=\"1\"} 6\n\
            nv_trt_llm_request_metrics{model=\"t\",request_type=\"max\",version=\"1\"} 512\n\
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\",model=\"t\"} 64\n\
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\",model=\"t\"} 100\n\
            nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\",model=\"t\"} 0.01\n";
        let expected =
            EngineLoad { waiting: Some(4), running: Some(6), kv_usage: Some(0.01), kv_tokens: Some(6_400) };
        assert_eq!(TRITON.read(triton), expected);
        let of_vllm =
            "vllm:num_requests_running{model=\"v\"} 3\nnv_inference_pending_request_count{model=\"v\"} 2\n";
        let expected = EngineLoad { waiting: Some(2), running: Some(3), ..EngineLoad::default() };
        assert_eq!(TRITON.read(of_vllm), expected);
        let llama = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 0\n";
        let expected = EngineLoad { waiting: Some(0), running: Some(1), ..EngineLoad::default() };
        assert_eq!(LLAMA_CPP.read(llama), expected);
        let tgi = "tgi_queue_size 7\ntgi_batch_current_size 8\n";
        let expected = EngineLoad { waiting: Some(7), running: Some(8), ..EngineLoad::default() };
        assert_eq!(TGI.read(tgi), expected);
    }

    #[test]
    fn what_a_page_does_not_say_is_unknown_and_nonsense_is_skipped() {
        for page in [
            "",
            "<html>not here</html>",
            "vllm:num_requests_waiting",
            "vllm:num_requests_waiting{",
            "vllm:num_requests_waiting NaN",
            "vllm:num_requests_waiting -1",
            "vllm:num_requests_waiting{a=\"}\n",
            "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"None\"} 1.0",
            "vllm:cache_config_info{block_size=\"16\"} 1.0",
            "vllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"1e300\"} 1.0",
        ] {
            assert_eq!(VLLM.read(page), EngineLoad::default(), "{page}");
        }
        assert_eq!(VLLM.read("vllm:num_requests_running 1e30").running, Some(u32::MAX));
        assert_eq!(VLLM.read("vllm:kv_cache_usage_perc 42").kv_usage, Some(1.0));
    }
}
