"""Two adapters of the demo model: answers as a pirate, answers in traditional Chinese.

Each lies in a folder of its own beside this file, ready to be served.
"""
