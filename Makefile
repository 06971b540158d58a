# The two commands of the README are `make run` and `make test`; what they do lives in daemon/scripts.
.PHONY: run test bench bench-pixels bench-priority bench-scale bench-reflections bench-gate eval fmt lint setup torture-kill torture-pixels torture-power torture-disk torture-soak bench-enhance bench-models aarch64

# Python's onnxruntime in the benches: it reports to its makers unless told otherwise.
export ORT_DISABLE_TELEMETRY := 1
export ORT_TELEMETRY_DISABLED := 1

run:        ## build, start the daemon, send a synthetic eye through it, stay up until Ctrl-C
	@daemon/scripts/run.sh

test:       ## formatting, lints, every test, against real servers
	@daemon/scripts/test.sh

bench:      ## figures: submit latency beside the disk's own; cold start and memory with networks
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench submit --bench models

bench-scale: ## start, memory, lists and submits of a store with 100,000 finished jobs: make bench-scale ARGS="--finished 1000000"
	@daemon/scripts/setup.sh
	@cargo bench --locked --package irisd --bench scale -- $(ARGS)

bench-priority: ## figures: what an interactive job waits for behind fifty others, and the default lane under a flood
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench priority

bench-enhance: ## the enhance stage beside the network's own time, beside Python, and its memory
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench enhance

bench-models: ## from the start to the first enhanced photo, and memory without, with and after networks
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench models

aarch64:    ## the program for the Jetson's architecture, cross-built, and one photo by it under qemu: minutes
	@daemon/scripts/aarch64.sh

eval:       ## segmentation against a folder of eyes with masks: make eval EYES=/path/to/eyes
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench eval -- $(EYES)

bench-gate: ## the quality gate's figures on real eyes, ramps of drawn ones, refusals by colour: make bench-gate EYES=/path/to/eyes
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench gate -- $(EYES)

bench-reflections: ## lamps found, filled in and merged away, beside OpenCV 4.13: make bench-reflections EYES=/path/to/eyes
	@daemon/scripts/setup.sh
	@daemon/scripts/bench-reflections.sh $(EYES)

bench-pixels: ## pixel operations and the whole pipeline beside OpenCV 4.13, time and peak memory
	@daemon/scripts/setup.sh
	@daemon/scripts/bench-pixels.sh

fmt:        ## formats the sources
	@cargo fmt --all

lint:       ## clippy, and the advisories and licences of the dependencies where cargo-deny is installed
	@cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "lint: cargo-deny is not installed, advisories and licences were not checked"; fi

setup:      ## system packages for building and testing, and the ONNX Runtime library
	@daemon/scripts/setup.sh test
	@daemon/scripts/onnxruntime.sh

torture-kill torture-pixels torture-power torture-disk torture-soak: ## hours of trouble, results in docs/reliability.md: make torture-kill ARGS="--seed 7"
	@daemon/scripts/torture.sh $(@:torture-%=%) $(ARGS)
