"""Every knob of the server: meaning, unit, range and default, in one frozen struct.

Read from the command line, then the environment, then a TOML file; see `configuration.py`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from app.demo import DEMO_ADAPTERS_PATH, DEMO_MODELS


def knob(description: str, **limits: Any) -> Meta:
    """A setting's meaning and limits; help, README and error messages read them from here."""
    return Meta(description=description, **limits)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults serve the embedded demo model on this machine alone."""

    model: Annotated[
        str,
        knob(
            "Hugging Face id, ModelScope id, local folder, GGUF file, or an embedded model: "
            "'demo', 'demo-vision'."
        ),
    ] = "demo"
    model_name: Annotated[
        str, knob("Name that requests and replies use. Default: the last part of `model`.")
    ] = ""
    model_aliases: Annotated[
        tuple[str, ...], knob("Other names under which requests may ask for the model.")
    ] = ("default-model",)
    model_type: Annotated[
        Literal["auto", "LLM", "VL"],
        knob("LLM reads text, VL pictures too. auto: what the model can."),
    ] = "auto"
    mmproj_path: Annotated[str, knob("Vision projector file (GGUF) of a GGUF model.")] = ""
    model_module: Annotated[
        str, knob("Python module whose function `register` adds model classes to vLLM.")
    ] = ""
    hub: Annotated[Literal["huggingface", "modelscope"], knob("Where model ids are looked up.")] = (
        "huggingface"
    )
    adapters: Annotated[
        dict[str, str], knob("LoRA adapters to serve: name=folder, separated by commas.")
    ] = {}
    adapter_dir: Annotated[
        str, knob("Folder that is watched; each folder in it is served as a LoRA adapter.")
    ] = ""
    adapter_hub: Annotated[bool, knob("Let an admin load adapters by their Hugging Face id.")] = (
        False
    )
    max_adapter_mib: Annotated[
        int, knob("Largest adapter that is loaded, in MiB.", ge=1, le=2**20)
    ] = 4096
    state_dir: Annotated[
        str,
        knob("Folder of what outlives a restart. Default: slipstream in the user's state folder."),
    ] = ""
    chat_template: Annotated[
        str, knob("File with a Jinja chat template. Default: the model's own.")
    ] = ""

    host: Annotated[str, knob("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, knob("Port to listen on.", ge=0, le=65535)] = 8000
    trusted_network: Annotated[bool, knob("Allow listening beyond this machine without a key.")] = (
        False
    )
    api_keys: Annotated[
        tuple[str, ...], knob("Accepted bearer keys, separated by commas. None: no key is needed.")
    ] = ()
    api_key_file: Annotated[str, knob("File with one accepted key a line.")] = ""
    admin_keys: Annotated[
        tuple[str, ...], knob("Keys that may do everything: load adapters, read everybody's usage.")
    ] = ()
    key_file: Annotated[
        str,
        knob("TOML file of keys with names, rights and limits (just key new); followed as it is."),
    ] = ""
    usage_days: Annotated[
        int, knob("Days for which it is remembered what each key has used.", ge=1, le=3650)
    ] = 400
    cors_origins: Annotated[
        tuple[str, ...], knob("Web origins that may call this server. None: no CORS headers.")
    ] = ()

    dtype: Annotated[
        Literal["auto", "float16", "bfloat16", "float32"], knob("Data type of weights.")
    ] = "auto"
    quantization: Annotated[
        str, knob("Quantization method of vLLM, or 'int8' for 8-bit weights of any model.")
    ] = ""
    max_model_len: Annotated[
        int, knob("Context length in tokens. 0: the model's own.", ge=0, le=2**24)
    ] = 0
    max_loras: Annotated[int, knob("Adapters in one batch.", ge=1, le=256)] = 4
    max_pinned_loras: Annotated[
        int, knob("Adapters that can be pinned, in device memory beside those.", ge=0, le=256)
    ] = 1
    max_cpu_loras: Annotated[
        int, knob("Further adapters in main memory; others are read again.", ge=1, le=4096)
    ] = 32
    max_lora_rank: Annotated[
        Literal[8, 16, 32, 64, 128, 256, 320, 512], knob("Largest rank of an adapter.")
    ] = 16
    tensor_parallel_size: Annotated[int, knob("GPUs that share each layer.", ge=1, le=1024)] = 1
    pipeline_parallel_size: Annotated[
        int, knob("Groups of GPUs that share the layers.", ge=1, le=1024)
    ] = 1
    data_parallel_size: Annotated[int, knob("Copies of the model.", ge=1, le=1024)] = 1
    distributed_executor_backend: Annotated[
        Literal["auto", "mp", "ray", "uni", "external_launcher"],
        knob("What runs the workers. auto: vLLM decides; ray: several machines."),
    ] = "auto"
    cpu_kv_cache_gib: Annotated[
        int, knob("Memory for the KV cache on a CPU, in GiB.", ge=1, le=4096)
    ] = 1
    compile_seconds: Annotated[
        float, knob("Longest time one pattern of a constraint may take to compile.", gt=0, le=600)
    ] = 5.0
    compile_memory_mib: Annotated[
        int, knob("Memory of a process that compiles patterns, in MiB.", ge=512, le=2**20)
    ] = 2048
    compile_processes: Annotated[
        int, knob("Processes that compile patterns of constraints.", ge=1, le=256)
    ] = 2
    index_cache_dir: Annotated[
        str, knob("Folder of compiled patterns. Default: slipstream in the user's cache folder.")
    ] = ""
    index_cache_disk_mib: Annotated[
        int, knob("Size of that folder, in MiB; what is longest unused goes first.", ge=1, le=2**30)
    ] = 2048
    index_cache_memory_mib: Annotated[
        int, knob("Memory for compiled patterns in the engine's core, in MiB.", ge=1, le=2**20)
    ] = 1024
    tool_dialect: Annotated[
        Literal["auto", "hermes", "llama3_json", "mistral_v11", "mistral", "generic"],
        knob("How the model writes tool calls. auto: as its chat template shows."),
    ] = "auto"
    tools_module: Annotated[
        str, knob("Python module whose public functions are tools that run here. Empty: none do.")
    ] = ""
    tool_rounds: Annotated[
        int, knob("Times in one request that tools may run and be answered.", ge=1, le=64)
    ] = 8
    tool_seconds: Annotated[
        float, knob("Longest time one call of a tool that runs here may take.", gt=0, le=3600)
    ] = 30.0
    tool_call_attempts: Annotated[
        int, knob("How often a call or reply that breaks its schema is generated.", ge=1, le=8)
    ] = 3
    tool_call_delivery: Annotated[
        Literal["atomic", "incremental"],
        knob("Streamed calls: sent when they are verified, or as their arguments grow."),
    ] = "atomic"
    usage_stats: Annotated[bool, knob("Let vLLM send usage statistics to its makers.")] = False

    single_flight: Annotated[
        bool, knob("Compute greedy and seeded requests that are the same at the same time once.")
    ] = True
    reply_cache: Annotated[
        str,
        knob("Keep replies to such requests: 'memory', or a redis:// or valkey:// URL. Empty: no."),
    ] = ""
    reply_cache_seconds: Annotated[int, knob("How long a reply is kept.", ge=1, le=2**31 - 1)] = (
        3600
    )
    reply_cache_mib: Annotated[
        int, knob("Memory for kept replies, in MiB; a Redis bounds its own.", ge=1, le=2**20)
    ] = 256
    reply_cache_entry_kib: Annotated[
        int, knob("Largest reply that is kept, in KiB.", ge=1, le=2**20)
    ] = 1024
    idempotency_seconds: Annotated[
        int,
        knob(
            "How long the answer to an Idempotency-Key is kept, in the Redis of `reply_cache` or "
            "in memory. 0: such keys mean nothing.",
            ge=0,
            le=2**31 - 1,
        ),
    ] = 86400
    idempotency_mib: Annotated[
        int, knob("Memory for such answers, in MiB; a Redis bounds its own.", ge=1, le=2**20)
    ] = 64
    idempotency_entry_kib: Annotated[
        int, knob("Largest such answer that is kept, in KiB.", ge=1, le=2**20)
    ] = 1024
    store_seconds: Annotated[
        float, knob("Longest time that Redis may take; then it is done without.", gt=0, le=60)
    ] = 0.25
    max_in_flight: Annotated[
        int, knob("HTTP requests worked on at once; more are answered 503.", ge=1, le=2**20)
    ] = 1024
    owner_share: Annotated[
        float, knob("Share of them that requests with one key may take.", gt=0, le=1)
    ] = 0.75
    max_queued_requests: Annotated[
        int, knob("Generations that wait for the engine; more are answered 503.", ge=1, le=2**20)
    ] = 4096
    max_queued_tokens: Annotated[
        int, knob("Tokens of their prompts, all together.", ge=1, le=2**31)
    ] = 2**21
    max_overtaking: Annotated[
        int,
        knob("How often in a row what is more urgent may overtake a waiting one.", ge=1, le=2**20),
    ] = 16
    queue_margin: Annotated[
        float,
        knob("Given to the engine beyond what it can run at once, as a share of that.", ge=0, le=8),
    ] = 0.25
    max_request_seconds: Annotated[
        float, knob("Longest time that a request may take. 0: any.", ge=0, le=86400)
    ] = 0.0
    max_body_bytes: Annotated[
        int, knob("Largest request body in bytes; larger ones are answered 413.", ge=1024, le=2**32)
    ] = 16 * 2**20
    max_header_bytes: Annotated[
        int, knob("Bytes in all headers of a request; more are answered 431.", ge=4096, le=2**20)
    ] = 64 * 2**10
    max_headers: Annotated[
        int, knob("Headers of a request; more are answered 431.", ge=16, le=65536)
    ] = 256
    max_url_bytes: Annotated[
        int, knob("Longest URL in bytes; longer ones are answered 414.", ge=1024, le=2**20)
    ] = 8 * 2**10
    max_connections: Annotated[
        int,
        knob("Connections at once; fewer if the process may open fewer files.", ge=1, le=2**20),
    ] = 8192
    head_seconds: Annotated[
        float, knob("How long a client may take to send a request's headers.", gt=0, le=3600)
    ] = 10.0
    body_seconds: Annotated[
        float, knob("How long a body may come slower than it must.", gt=0, le=3600)
    ] = 10.0
    slow_reader_seconds: Annotated[
        float, knob("How long a reply may be read slower than it must.", gt=0, le=3600)
    ] = 30.0
    max_unsent_bytes: Annotated[
        int, knob("Bytes of a reply that may wait in the kernel.", ge=4096, le=2**30)
    ] = 128 * 2**10
    min_bytes_per_second: Annotated[
        int, knob("How fast bodies must come, and replies that wait be read.", ge=1, le=2**30)
    ] = 1024
    keep_alive_seconds: Annotated[
        int, knob("How long a connection may be idle between requests.", ge=1, le=3600)
    ] = 75
    push_delivery: Annotated[
        bool, knob("Send plain deltas of streams from where the engine's output is read.")
    ] = True
    coalesce_seconds: Annotated[
        float,
        knob(
            "While the engine's outputs wait longer than this for the server, deltas of a stream "
            "are merged into fewer events; 0 for one event a delta at any load.",
            ge=0,
            le=10,
        ),
    ] = 0.0
    max_images: Annotated[int, knob("Pictures in one prompt.", ge=1, le=256)] = 8
    max_batch_images: Annotated[
        int, knob("Pictures in all prompts of one /batch request.", ge=1, le=65536)
    ] = 64
    max_image_bytes: Annotated[
        int, knob("Largest encoded picture in bytes.", ge=1024, le=2**30)
    ] = 10 * 2**20
    max_image_pixels: Annotated[
        int, knob("Largest picture in pixels; checked before it is decoded.", ge=1024, le=2**30)
    ] = 36_000_000
    image_hosts: Annotated[
        tuple[str, ...],
        knob("Hosts from which picture URLs are fetched: names, *.names, or * for any public one."),
    ] = ()
    image_seconds: Annotated[
        float, knob("Longest time that fetching one request's pictures may take.", gt=0, le=600)
    ] = 5.0
    max_batch_prompts: Annotated[
        int, knob("Prompts in one /batch or /v1/completions request.", ge=1, le=2**20)
    ] = 1024
    drain_seconds: Annotated[
        float, knob("How long running requests may go on after SIGTERM.", ge=0, le=86400)
    ] = 30.0
    linger_seconds: Annotated[
        float,
        knob(
            "How long new requests are answered 503 after SIGTERM, before the port is closed: "
            "until a load balancer has seen that /health/ready is.",
            ge=0,
            le=3600,
        ),
    ] = 5.0
    stall_seconds: Annotated[
        float,
        knob(
            "Time without a sign of life of the engine until /health/ready is 503.", gt=0, le=3600
        ),
    ] = 30.0
    hang_seconds: Annotated[
        float,
        knob(
            "Time without a sign of life until the engine is killed and started again; longer "
            "than any step of it takes.",
            gt=0,
            le=86400,
        ),
    ] = 120.0
    restart_wait_seconds: Annotated[
        float,
        knob("How long a request waits for an engine that is started again.", ge=0, le=3600),
    ] = 60.0
    restart_backoff_seconds: Annotated[
        float,
        knob("Pause before an engine is started again; doubles with each failure.", ge=0, le=3600),
    ] = 1.0
    max_engine_failures: Annotated[
        int,
        knob("Times that an engine is started again in `engine_failure_seconds`.", ge=0, le=1000),
    ] = 5
    engine_failure_seconds: Annotated[
        float, knob("For how long a failure of the engine counts.", gt=0, le=7 * 86400)
    ] = 600.0
    max_reruns: Annotated[
        int,
        knob(
            "Times that a request which the engine died with, before its first output, is run "
            "again; what kills the engine may be the request.",
            ge=0,
            le=16,
        ),
    ] = 1
    log_dir: Annotated[
        str, knob("Folder of slipstream.log (requests) and engine.log (vLLM). Empty: console only.")
    ] = "logs"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], knob("Least severe message that is logged.")
    ] = "info"
    min_replicas: Annotated[int, knob("Replicas that a cluster always runs.", ge=1, le=4096)] = 1
    max_replicas: Annotated[int, knob("Replicas that a cluster may grow to.", ge=1, le=4096)] = 2
    replica_in_flight: Annotated[
        int, knob("Requests in flight a replica above which a cluster grows.", ge=1, le=2**20)
    ] = 64
    replica_cpus: Annotated[
        float, knob("CPUs that a cluster sets aside for a replica.", ge=0, le=4096)
    ] = 1.0
    engine_arguments: Annotated[
        dict[str, Any], knob("Any other engine argument of vLLM; set them by their own names.")
    ] = {}

    @property
    def model_path(self) -> str:
        """What the engine loads."""
        return str(DEMO_MODELS[self.model][1]) if self.model in DEMO_MODELS else self.model

    @property
    def adapter_folder(self) -> str:
        """Folder of adapters that is watched; the demo model has its own."""
        return self.adapter_dir or (str(DEMO_ADAPTERS_PATH) if self.model == "demo" else "")

    @property
    def served_name(self) -> str:
        """What requests call it."""
        if self.model_name:
            return self.model_name
        if self.model in DEMO_MODELS:
            return DEMO_MODELS[self.model][0]
        return Path(self.model).name.removesuffix(".gguf")

    @property
    def base_names(self) -> frozenset[str]:
        """Names of the base model, which no adapter may have."""
        return frozenset({self.served_name, self.model, *self.model_aliases})

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can reach the server."""
        return self.host not in {"127.0.0.1", "localhost", "::1"}

    def __repr__(self) -> str:
        """Without the keys: a repr ends up in logs."""
        return f"Settings(model={self.model!r}, host={self.host!r}, port={self.port})"
