"""How the documents are built: `make docs`, with every warning an error and without a network."""

from lightning_app import __version__

project = "steps-to-epsilon"
author = "The steps-to-epsilon authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3  # links to headings, under the names that they have in a repository's view of these files

default_role = "literal"  # what stands in backticks in a docstring
autodoc_typehints_format = "short"
nitpick_ignore_regex = [
    ("py:.*", r"(.*\.)?(Path|DataFrame|BadInputError)")
]  # other projects' pages would need a network

html_theme = "pydata_sphinx_theme"
html_title = project
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navbar_center": [], "secondary_sidebar_items": ["page-toc"], "navigation_with_keys": False}
html_sidebars = {"**": ["globaltoc.html"]}  # the theme's own shows nothing where no page lies below another
