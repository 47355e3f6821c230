"""Parts that every process needs: the event loop, the Faust application, health, metrics, logs."""
