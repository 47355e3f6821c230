"""What every process needs: the event loop, the Faust application, health, metrics, logs."""
