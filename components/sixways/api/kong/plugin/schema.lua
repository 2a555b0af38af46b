-- Fields of the plugin; those of Redis are called as in Kong's own rate-limiting.

local typedefs = require "kong.db.schema.typedefs"

local redis = {
  { host = typedefs.host },
  { port = typedefs.port { default = 6379 } },
  { username = { type = "string", referenceable = true } },
  { password = { type = "string", referenceable = true, encrypted = true } },
  { database = { type = "integer", default = 0 } },
  { timeout = { type = "number", default = 2000 } },
  { ssl = { type = "boolean", default = false } },
  { ssl_verify = { type = "boolean", default = false } },
  { server_name = typedefs.sni },
}

return {
  name = "sixways-tokens",
  fields = {
    { protocols = typedefs.protocols_http },
    { config = {
        type = "record",
        fields = {
          { minute = { type = "number", required = true, gt = 0 } },
          { policy = { type = "string", default = "local", one_of = { "local", "redis" } } },
          { redis = { type = "record", required = true, fields = redis } },
          -- Seconds until Redis knows what a pod counted.
          { sync_rate = { type = "number", required = true, default = 1 } },
        },
    } },
  },
}
