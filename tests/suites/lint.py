"""redbot, which by itself sends no header fields of ours: `lint.py URL [NAME=VALUE ...]` prints what it found (HAR)."""
import sys
from configparser import ConfigParser

import thor
from redbot.formatter import find_formatter
from redbot.resource import HttpResource

url, *fields = sys.argv[1:]
parser = ConfigParser()
parser.read_dict({"redbot": {"enable_local_access": "True"}})
config = parser["redbot"]
resource = HttpResource(config, descend=False)
resource.set_request(url, "GET", [tuple(field.split("=", 1)) for field in fields])
formatter = find_formatter("har", "text", False)(config, resource, sys.stdout.write, {"tty_out": False, "descend": False})
formatter.bind_resource(resource)
formatter.on("formatter_done", thor.stop)
resource.check()
thor.run()
