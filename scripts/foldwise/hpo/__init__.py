"""Studies of hyperparameters: trials that are files, Optuna to choose their settings and to stop hopeless ones."""
