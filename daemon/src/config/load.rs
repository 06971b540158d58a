//! Reading the configuration: layers, environment, validation.
