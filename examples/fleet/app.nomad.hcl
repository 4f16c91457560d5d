# Nomad replaces allocations; a change of the template is a reload.
job "app" {
  group "app" {
    count = 2

    network {
      port "http" { to = 8000 }
    }

    service {
      name = "app"
      port = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "2s"
        timeout  = "1s"
      }
    }

    task "app" {
      driver         = "docker"
      kill_timeout   = "45s"
      shutdown_delay = "5s" # Until no proxy sends new connections here.

      config {
        image = "example.com/app:1" # With `reload-self run` as its entry point: ../containers/Dockerfile
        ports = ["http"]
      }

      template {
        data          = "{ \"greeting\": \"hello\" }"
        destination   = "local/config.json"
        change_mode   = "signal"
        change_signal = "SIGHUP"
      }
    }
  }
}
