# What people do with this project. `just` alone lists it.

set positional-arguments

python := ".venv/bin/python"
# A CPU build of vLLM unless there is an NVIDIA GPU; `just platform=cuda serve` decides otherwise.
platform := if path_exists("/dev/nvidiactl") == "true" { "cuda" } else { "cpu" }
compile := "uv pip compile -q --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-annotate --no-header"
# The CPU build of torch is not on the package registry: it comes from a folder of wheels, or from
# PyTorch's own index.
export UV_FIND_LINKS := env("PIP_FIND_LINKS", "")
torch := if platform == "cuda" { "" } else if UV_FIND_LINKS != "" { "" } else { "--torch-backend cpu" }

[private]
default:
    @just --list --unsorted

# Install the locked versions; takes a second when they are there
setup *more:
    @test -d .venv || uv venv -q --python 3.11 .venv
    @uv pip install -q --no-deps {{torch}} -r locks/{{platform}}.txt {{more}}

# Serve the embedded demo model, or another: just serve --model Qwen/Qwen3-0.6B
serve *options: setup
    @exec {{python}} -m app "$@"

# Serve from several replicas at one address, with Ray Serve
serve-cluster *options: (setup "-r locks/cluster.txt")
    @exec {{python}} -m app.cluster "$@"

# Make, list and revoke keys: just key new alice --requests-per-minute 60
key *options: setup
    @{{python}} -m app.keys "$@"

# Run the tests
test *options: (setup "-r locks/dev.txt -r locks/cluster.txt")
    {{python}} -m pytest --numprocesses 2 --dist loadscope "$@"

# Check format, lint, types and known vulnerabilities; changes nothing
check: (setup "-r locks/dev.txt")
    {{python}} -m ruff format --check .
    {{python}} -m ruff check .
    {{python}} -m mypy
    {{python}} -m tests.audit

# Look for input that breaks it, with so many examples a test; the tests look at the same few each time
fuzz examples="10000": (setup "-r locks/dev.txt")
    FUZZ_EXAMPLES={{examples}} {{python}} -m pytest tests/fuzz tests/scorecard/test_client.py -k "not x1"

# Format, and fix what the linter can
fmt: (setup "-r locks/dev.txt")
    {{python}} -m ruff format .
    {{python}} -m ruff check --fix .

# Load while the engine is killed and stopped, and a report of whether all counts agree afterwards
chaos *options: (setup "-r locks/dev.txt")
    @{{python}} -m tests.bench.chaos "$@"

# The same load for two hours while nobody touches the engine: nothing may grow
soak *options: (setup "-r locks/dev.txt")
    @{{python}} -m tests.bench.chaos --no-faults --minutes 120 "$@"

# Measure: `just bench concurrency` asks a running server, `just bench tools` and `peers` start some
bench what="concurrency" *options: (setup "-r locks/dev.txt")
    @shift || true; {{python}} -m tests.bench.{{what}} "$@"

# Train the demo models and adapters again, from their corpora and drawings
demo: (setup "-r locks/demo.txt")
    {{python}} -m app.demo.train
    {{python}} -m app.demo.adapters.train
    {{python}} -m app.demo.vision.train

# Build the container image: just image cpu
image target="cuda":
    podman build --format docker --target {{target}} -t slipstream:{{target}} \
        {{ if UV_FIND_LINKS != "" { "--build-arg PIP_FIND_LINKS=" + UV_FIND_LINKS + " -v " + UV_FIND_LINKS + ":" + UV_FIND_LINKS + ":ro" } else { "" } }} .

# Look at a built image from inside: who runs, what listens, what is written
scan image="slipstream:cpu":
    for root in "--read-only=false" "--read-only --tmpfs /tmp"; do \
        podman run --rm -i $root --cap-drop all --network none --shm-size 1g \
            --entrypoint python {{image}} - < tests/container/scan.py || exit 1; \
    done

# Resolve the locked versions anew
lock:
    {{compile}} {{torch}} pyproject.toml --extra cpu --no-emit-package torch -o locks/cpu.txt
    # Without a hash: PyTorch's index and a folder of wheels may hold different files.
    echo "torch==2.13.0+cpu" >> locks/cpu.txt
    env -u UV_FIND_LINKS {{compile}} --no-config pyproject.toml --extra cuda -o locks/cuda.txt
    # What `setuptools` is, the platform's own lock says.
    {{compile}} {{torch}} pyproject.toml --extra cluster -c locks/cpu.txt --no-emit-package setuptools -o locks/cluster.txt
    {{compile}} {{torch}} --group demo -c locks/cpu.txt --no-emit-package torch --no-emit-package setuptools -o locks/demo.txt
    {{compile}} --group dev -c locks/cpu.txt -o locks/dev.txt
