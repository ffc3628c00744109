# Each target is one script of tests/setup; this file only names them.
.DEFAULT_GOAL := help
.PHONY: help run test proof scale bench generate fmt lint unit integration e2e images up down clean

help: ## Show this list
	@sed -n 's/^\([a-z0-9]*\): ## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: ## Bring up a Kubernetes if there is none, install everything, and show two people talk on two pods
	@tests/setup/run

test: ## Everything that must hold: formats, lints, unit, integration and end-to-end tests, image sizes
	@tests/setup/test

proof: ## The long proofs: every pair of faults under load, every fault of the operator in memory, seeded mutants
	@tests/setup/proof

scale: ## A benchmark: one operator with a thousand ChatClusters
	@tests/setup/scale

bench: ## What a node costs, in numbers: all scenarios, or SCENARIO="idle rooms fanout durable storm across"
	@tests/setup/bench $(SCENARIO)

generate: ## Write the files that are made from others: the CRD, the OpenAPI document and the chart's copies
	@tests/setup/generate

fmt: ## Format the code
	@cargo fmt --all

lint: ## Formats, clippy, scripts, Dockerfiles, workflows, Compose file, chart, kustomize bases, alerts
	@tests/setup/lint

unit: ## Tests that need nothing
	@tests/setup/unit

integration: ## Tests against a real PostgreSQL and RabbitMQ
	@tests/setup/integration

e2e: ## Tests on a real Kubernetes
	@tests/setup/e2e

images: ## Static binaries, and the images made of them
	@tests/setup/images

up: ## A Kubernetes, PostgreSQL and RabbitMQ, and nothing in them
	@tests/setup/up

down: ## End what run and up have started
	@tests/setup/down

clean: ## Remove what was compiled; what takes longest (Kubernetes) stays in the cache
	@tests/setup/clean
