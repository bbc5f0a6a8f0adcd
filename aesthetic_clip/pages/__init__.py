"""What is seen in a browser, for any host that has gradio."""
