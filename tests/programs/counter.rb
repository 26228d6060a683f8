require "socket"
server, lock, n, seen = TCPServer.new("127.0.0.1", ARGV[0].to_i), Mutex.new, 0, {}
Thread.new { loop { sleep 0.001; GC.start if rand < 0.01 } }
loop do
  Thread.new(server.accept) do |client|
    while client.gets
      client.puts(lock.synchronize { seen[n += 1] = "x" * 100; n })
    end
    client.close
  end
end
