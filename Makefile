# The two commands of the README are `make run` and `make test`; what they do lives in daemon/scripts.
.PHONY: run test bench bench-pixels bench-priority bench-reflections eval fmt lint setup torture-kill torture-power torture-disk torture-soak

run:        ## build, start the daemon, send a synthetic eye through it, stay up until Ctrl-C
	@daemon/scripts/run.sh

test:       ## formatting, lints, every test, against real servers
	@daemon/scripts/test.sh

bench:      ## figures: submit latency beside the disk's own
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench submit

bench-priority: ## figures: what an interactive job waits for behind fifty others, and the default lane under a flood
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench priority

eval:       ## segmentation against a folder of eyes with masks: make eval EYES=/path/to/eyes
	@daemon/scripts/setup.sh
	@IRISD_TEST_ONNXRUNTIME="$$(daemon/scripts/onnxruntime.sh | tail -n 1)" cargo bench --locked --package irisd --bench eval -- $(EYES)

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

torture-kill torture-power torture-disk torture-soak: ## hours of trouble, results in docs/reliability.md: make torture-kill ARGS="--seed 7"
	@daemon/scripts/torture.sh $(@:torture-%=%) $(ARGS)
