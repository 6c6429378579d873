"""A page of this machine on which one looks into networks: ``tools/explore.py`` starts it.

pictures.py holds the images, networks.py opens networks, views.py draws, session.py keeps what is computed, and
server.py answers the page. page.html, page.css and the files *.js are the page.
"""
