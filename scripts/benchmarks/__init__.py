"""What is measured, each by one command: `python -m scripts.benchmarks NAME`, from the root of the checkout.

The shared modules: `options` (command lines), `tables`, `figures`, `records` (versions and files), `counting` (work),
`vaes` (trained models). Each benchmark is one module, or one package with a module `command`.
"""
