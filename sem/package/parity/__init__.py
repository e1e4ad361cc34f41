"""Does each runtime answer as the model that was proven?"""
